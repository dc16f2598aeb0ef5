-- An import, step three: post one slice. The posting path of many users.

-- Tokens of account `a` under open holds, for a statement on one partition.
CREATE OR REPLACE FUNCTION tokenctl.held_by_a(p_part integer) RETURNS text
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN format('(SELECT coalesce(sum(h.amount), 0)::bigint FROM tokenctl.%I h'
    ' WHERE h.user_id = a.user_id AND h.state = ''open'' AND h.expires_at > clock_timestamp())', 'token_holds_' || p_part);
END
$$;

-- Post the rows that p_source selects, all of one partition and with no key twice, of
-- p_users users, whose tokens and number of rows p_sums selects (user_id, tokens, n), and
-- for all of whom p_mine holds: the rest of the partition's accounts is not looked at. All
-- set-based: every account that there is (this takes the locks; of a reversal, p_reversal, those
-- that have its tokens available), then those that a grant makes, then the entries. When somebody else makes
-- such an account meanwhile, its key says so. Answers the number of entries.
--
-- The entries are numbered and summed up in one run over all users, from which each takes off what
-- comes before his own: to order whole numbers is quicker than names, and one run than one for each.
-- A line is below 2^40, so that no row leaves its user's place.
CREATE OR REPLACE FUNCTION tokenctl.post_set(p_part integer, p_source text, p_sums text, p_mine text, p_users bigint, p_reversal boolean, p_batch text, p_request_id text, p_claimed_by text)
  RETURNS bigint
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_accounts text := format('tokenctl.%I', 'token_accounts_' || p_part);
  v_count    bigint;
  v_new      bigint := 0;
BEGIN
  IF p_reversal THEN
    -- Locks first, in a statement of its own: what is held is read by the next one, which
    -- then sees every hold that was made before the lock was ours.
    EXECUTE format('SELECT count(*) FROM (SELECT FROM %s WHERE user_id IN (SELECT user_id FROM (%s) u) ORDER BY user_id FOR NO KEY UPDATE) locked',
      v_accounts, p_sums);
  END IF;
  EXECUTE format($sql$
    UPDATE %s a SET balance = a.balance + u.tokens, last_seq = a.last_seq + u.n, updated_at = greatest(clock_timestamp(), a.updated_at)
    FROM (%s) u WHERE a.user_id = u.user_id AND (u.tokens >= 0%s) $sql$,
    v_accounts, p_sums, CASE WHEN p_reversal THEN format(' OR a.balance - %s + u.tokens >= 0', tokenctl.held_by_a(p_part)) END);
  GET DIAGNOSTICS v_count = ROW_COUNT;
  IF NOT p_reversal AND v_count < p_users THEN
    EXECUTE format('INSERT INTO %1$s (user_id, balance, last_seq) SELECT * FROM (%2$s) u'
      ' WHERE NOT EXISTS (SELECT FROM %1$s a WHERE a.user_id = u.user_id)', v_accounts, p_sums);
    GET DIAGNOSTICS v_new = ROW_COUNT;
  END IF;
  IF v_count + v_new <> p_users THEN
    RAISE EXCEPTION 'an account lacks tokens' USING ERRCODE = 'check_violation', CONSTRAINT = 'available_tokens';
  END IF;
  EXECUTE format($sql$
    INSERT INTO tokenctl.%3$I (user_id, seq, amount, balance_after, created_at, reverses_seq, kind, reason, ticket, campaign,
      operator, claimed_by, request_id, idempotency_key, batch_id, note)
    SELECT s.user_id, u.seq + row_number() OVER run, s.amount, u.balance + tokenctl.sum_tokens(s.amount) OVER run, u.updated_at,
      s.reverses_seq, s.kind, s.reason, s.ticket, s.campaign, $4, $1, $2, s.idempotency_key, $3, s.note
    FROM %2$s s JOIN (
      SELECT a.user_id, a.updated_at, row_number() OVER users << 40 AS place,
        a.last_seq - tokenctl.sum_tokens(n) OVER users AS seq, a.balance - tokenctl.sum_tokens(tokens) OVER users AS balance
      FROM (SELECT user_id, balance, last_seq, updated_at FROM %1$s WHERE %4$s) a JOIN (%5$s) u USING (user_id)
      WINDOW users AS (ORDER BY a.user_id ROWS UNBOUNDED PRECEDING)) u USING (user_id)
    WINDOW run AS (ORDER BY u.place + s.line ROWS UNBOUNDED PRECEDING) $sql$,
    v_accounts, p_source, 'token_transactions_' || p_part, p_mine, p_sums)
  USING p_claimed_by, p_request_id, p_batch, session_user::text;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END
$$;

-- Post one slice, once. First everything at once, and the constraints speak; only
-- when they do, or rows are marked as left out, is the slice sorted, under the locks, into
-- what can be posted and what cannot. Answers the lane as it stands afterwards.
CREATE OR REPLACE FUNCTION tokenctl.import_apply_v1(p_batch text, p_part integer, p_slice integer, p_request_id text, p_claimed_by text)
  RETURNS tokenctl.import_lanes
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '60s'
AS $$
DECLARE
  batch    tokenctl.import_batches := tokenctl.import_own(p_batch);
  lane     tokenctl.import_lanes;
  v_users  text;
  v_source text;
  v_judge  boolean := false;
BEGIN
  IF batch.state <> 'applying' THEN
    RAISE EXCEPTION 'batch % has not begun', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  -- Who lost the lock without noticing would post what another run of the same login has staged and planned.
  IF batch.request_id <> p_request_id THEN
    RAISE EXCEPTION 'batch % was opened anew', p_batch USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'batch_lost';
  END IF;
  -- The commit of a slice need not wait for the disk: nothing is promised before
  -- import_close_v1, whose commit waits, and the log reaches the disk in order. A crash
  -- of the server takes the slice together with its lane, and the next run posts it.
  PERFORM set_config('synchronous_commit', 'off', true);
  -- One multi-user post at a time in a partition: two of them that lock the same
  -- accounts in different orders would deadlock. Single posts hold one lock only.
  PERFORM pg_advisory_xact_lock(hashtext('tokenctl partition'), p_part);
  SELECT * INTO lane FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch AND l.part = p_part AND l.slice = p_slice FOR UPDATE;
  IF NOT FOUND OR lane.state = 'done' THEN
    RETURN lane;
  END IF;
  IF to_regclass(tokenctl.staging_part(p_batch, p_part)) IS NULL THEN
    RAISE EXCEPTION 'the staged rows of batch % are gone', p_batch USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'staging_lost';
  END IF;
  -- Accounts are changed by the sums of the rows, entries made of the rows: nobody may change these in between.
  EXECUTE format('LOCK TABLE %s IN SHARE MODE', tokenctl.staging_part(p_batch, p_part));
  v_users := 'user_id >= ' || quote_literal(lane.from_user) || coalesce(' AND user_id < ' || quote_literal((
    SELECT min(l.from_user) FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch AND l.part = p_part AND l.from_user > lane.from_user)), '');
  v_source := format('(SELECT * FROM %s WHERE %s)', tokenctl.staging_part(p_batch, p_part), v_users);
  v_judge := lane.applied > 0;  -- posted before, and to be judged again
  IF batch.kind = 'reversal' AND NOT v_judge THEN  -- what the plan left out stays out, also where nothing would refuse it by now
    EXECUTE format('SELECT EXISTS (SELECT FROM %s s WHERE left_out IS NOT NULL)', v_source) INTO v_judge;
  END IF;
  IF NOT v_judge THEN
    BEGIN
      lane.applied := tokenctl.post_set(p_part, v_source, format('SELECT user_id, tokens, n FROM %s WHERE part = %s AND %s ORDER BY user_id',
        tokenctl.staging_sums(p_batch), p_part, v_users), v_users, lane.staged_users, batch.kind = 'reversal', p_batch, p_request_id, p_claimed_by);
      lane.applied_tokens := lane.staged_tokens;
      lane.replayed := 0;
      lane.replayed_tokens := 0;
      lane.conflicting := 0;
      lane.refused := 0;
      lane.findings := NULL;
    EXCEPTION WHEN unique_violation OR check_violation OR numeric_value_out_of_range THEN
      v_judge := true;
    END;
  END IF;
  IF v_judge THEN
    lane := tokenctl.post_sorted(lane, v_source, batch.kind = 'reversal', p_request_id, p_claimed_by);
  END IF;
  -- Unlogged rows are gone after a crash of the server, while the batch still says
  -- that they were staged.
  IF lane.applied + lane.replayed + lane.conflicting + lane.refused <> lane.staged THEN
    RAISE EXCEPTION 'the staged rows of batch % are gone', p_batch USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'staging_lost';
  END IF;
  lane.state := 'done';
  lane.finished_at := clock_timestamp();
  UPDATE tokenctl.import_lanes l
  SET (state, applied, applied_tokens, replayed, replayed_tokens, conflicting, refused, findings, finished_at)
    = (lane.state, lane.applied, lane.applied_tokens, lane.replayed, lane.replayed_tokens, lane.conflicting, lane.refused, lane.findings, lane.finished_at)
  WHERE l.batch_id = p_batch AND l.part = p_part AND l.slice = p_slice;
  RETURN lane;
END
$$;

-- The slow, exact way for a slice that the constraints refused: the accounts are
-- locked in order, each row is judged against what is now committed, and the good ones
-- are posted. A user whose balance would pass what it can hold, at the end or on the way, is left out whole; of a
-- reversal, line by line, the rows from the one on for which the tokens are not available.
-- An account is made with its first entry and not before, so there may be none to lock: when
-- somebody else made it meanwhile, the constraints speak once more, and all is judged again. Where the isolation
-- level hides such an account from this transaction, the next attempt sees it.
CREATE OR REPLACE FUNCTION tokenctl.post_sorted(lane tokenctl.import_lanes, p_source text, p_reversal boolean, p_request_id text, p_claimed_by text)
  RETURNS tokenctl.import_lanes
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lock   text := format('SELECT count(*) FROM (SELECT FROM tokenctl.%I WHERE user_id IN (SELECT user_id FROM %s s) ORDER BY user_id FOR NO KEY UPDATE) locked',
    'token_accounts_' || lane.part, p_source);
  v_before bigint;
  v_after  bigint;
BEGIN
  EXECUTE v_lock INTO v_after;
  LOOP
    v_before := v_after;
    BEGIN
      RETURN tokenctl.post_judged(lane, p_source, p_reversal, p_request_id, p_claimed_by);
    EXCEPTION WHEN unique_violation OR check_violation OR numeric_value_out_of_range THEN
      EXECUTE v_lock INTO v_after;
      IF v_after = v_before THEN
        IF SQLSTATE = '23505' AND current_setting('transaction_isolation') <> 'read committed' THEN
          RAISE EXCEPTION 'somebody else''s account is not to be seen yet' USING ERRCODE = 'serialization_failure';
        END IF;
        RAISE;
      END IF;
    END;
  END LOOP;
END
$$;

-- Judge the rows of a slice whose accounts are locked, all in one statement, and post the good
-- ones by their lines: what is committed in between changes no verdict half way.
CREATE OR REPLACE FUNCTION tokenctl.post_judged(lane tokenctl.import_lanes, p_source text, p_reversal boolean, p_request_id text, p_claimed_by text)
  RETURNS tokenctl.import_lanes
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_lines bigint[];
  v_users bigint;
  v_own   bigint;
  v_good  text;
BEGIN
  -- A row's verdict: `replayed`, `conflict`, `reversed` (the plan says what that is), `refused`, `too_large`
  -- (of a reversal; an import has no other refusal), `own` for one that this batch posted before it was
  -- cut off, or NULL for a row that can be posted. Inside the file the first row of a key is the one that counts.
  EXECUTE format($sql$
    SELECT coalesce(array_agg(line) FILTER (WHERE verdict IS NULL), '{}'), count(DISTINCT user_id) FILTER (WHERE verdict IS NULL),
      count(*) FILTER (WHERE verdict = 'own'), coalesce(sum(amount) FILTER (WHERE verdict IS NULL OR verdict = 'own'), 0),
      count(*) FILTER (WHERE verdict = 'replayed'), coalesce(sum(amount) FILTER (WHERE verdict = 'replayed'), 0),
      count(*) FILTER (WHERE verdict = 'conflict'), count(*) FILTER (WHERE verdict IN ('reversed', 'refused', 'too_large')),
      jsonb_agg(jsonb_build_object('line', line, 'user_id', user_id, 'problem', verdict, 'seq', coalesce(other_seq, reverses_seq)) ORDER BY line)
        FILTER (WHERE verdict NOT IN ('own', 'replayed'))
    FROM (
      SELECT user_id, line, amount, reverses_seq, other_seq, CASE
        WHEN known IS NOT NULL THEN known
        WHEN max(running + held) OVER (PARTITION BY user_id, known) > 9007199254740991 THEN CASE WHEN $1 THEN 'too_large' ELSE 'refused' END
        WHEN $1 AND amount < 0 AND running < 0 THEN 'refused'
        END AS verdict
      FROM (
        SELECT k.*, coalesce(a.held, 0) AS held,
          coalesce(a.balance - a.held, 0) + sum(k.amount) OVER (PARTITION BY k.user_id, k.known ORDER BY k.line) AS running
        FROM (
          SELECT s.user_id, s.line, s.amount, s.reverses_seq, t.seq AS other_seq, CASE
            WHEN r.seq IS NOT NULL THEN CASE r.batch_id WHEN $2 THEN 'own' ELSE 'replayed' END
            WHEN s.left_out IS NOT NULL THEN s.left_out
            WHEN t.seq IS NULL AND row_number() OVER (PARTITION BY s.user_id, s.idempotency_key ORDER BY s.line) = 1 THEN NULL
            WHEN t.seq IS NOT NULL AND (s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq)
              IS NOT DISTINCT FROM (t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)
              THEN CASE WHEN t.batch_id = $2 THEN 'own' WHEN %5$s THEN 'reversed' ELSE 'replayed' END
            ELSE 'conflict' END AS known
          FROM %1$s s
          LEFT JOIN %2$s t ON t.user_id = s.user_id AND t.idempotency_key = s.idempotency_key
          LEFT JOIN %2$s r ON r.user_id = s.user_id AND r.reverses_seq = s.reverses_seq) k
        LEFT JOIN (SELECT a.user_id, a.balance, %4$s AS held FROM %3$s a) a USING (user_id)) s) judged $sql$,
    p_source, format('tokenctl.%I', 'token_transactions_' || lane.part), format('tokenctl.%I', 'token_accounts_' || lane.part),
    tokenctl.held_by_a(lane.part), tokenctl.taken_back(lane.part))
  INTO v_lines, v_users, v_own, lane.applied_tokens, lane.replayed, lane.replayed_tokens, lane.conflicting, lane.refused, lane.findings
  USING p_reversal, lane.batch_id;
  IF v_own < lane.applied THEN
    RAISE EXCEPTION 'rows that batch % posted before are left out now', lane.batch_id
      USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'posted_before';
  END IF;
  v_good := format('(SELECT * FROM %s s WHERE line = ANY (%L::bigint[]))', p_source, v_lines);
  lane.applied := v_own + tokenctl.post_set(lane.part, v_good,
    format('SELECT user_id, tokenctl.sum_tokens(amount) AS tokens, count(*) AS n FROM %s s GROUP BY user_id ORDER BY user_id', v_good), 'true', v_users, p_reversal, lane.batch_id, p_request_id, p_claimed_by);
  RETURN lane;
END
$$;

-- A slice that was posted with other rows than are staged for it now is to be judged again: an option, a list
-- of reasons or the ledger itself has changed what is left out. With p_refused so is one that refused
-- some. What it posted is this batch's own, and counts once.
CREATE OR REPLACE FUNCTION tokenctl.import_reopen(p_batch text, p_refused boolean) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE tokenctl.import_lanes l
  SET state = 'pending', staged = c.staged, staged_tokens = c.tokens, staged_users = c.users, staged_lines = c.lines, finished_at = NULL
  FROM (SELECT DISTINCT d.part FROM tokenctl.import_lanes d WHERE d.batch_id = p_batch AND d.state = 'done') d,
    tokenctl.import_slices(p_batch, d.part) c
  WHERE l.batch_id = p_batch AND l.part = d.part AND l.slice = c.slice AND l.state = 'done'
    AND ((l.staged, l.staged_lines) IS DISTINCT FROM (c.staged, c.lines) OR p_refused AND l.refused > 0);
END
$$;

-- The batch is from now on that of whoever opened it; p_options are added to its own.
CREATE OR REPLACE FUNCTION tokenctl.batch_begin(p_batch text, p_options jsonb) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE tokenctl.import_batches b
  SET state = 'applying', options = b.options || p_options, opened_as = NULL, operator = coalesce(b.opened_as ->> 'operator', b.operator),
    claimed_by = coalesce(b.opened_as ->> 'claimed_by', b.claimed_by), request_id = coalesce(b.opened_as ->> 'request_id', b.request_id)
  WHERE b.batch_id = p_batch;
END
$$;

-- Confirmed: from here on the batch is in the ledger and is finished by whoever runs
-- the same command, however often it is cut off. p_asked are the options of
-- the command beside those that change rows: `batches show` gives them to who finishes it.
CREATE OR REPLACE FUNCTION tokenctl.import_begin_v1(p_batch text, p_asked jsonb) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
BEGIN
  PERFORM tokenctl.import_own(p_batch);
  PERFORM tokenctl.batch_begin(p_batch, jsonb_build_object('asked', p_asked));
  PERFORM tokenctl.import_reopen(p_batch, false);
END
$$;

REVOKE ALL ON FUNCTION tokenctl.held_by_a(integer), tokenctl.post_set(integer, text, text, text, bigint, boolean, text, text, text),
  tokenctl.post_sorted(tokenctl.import_lanes, text, boolean, text, text),
  tokenctl.post_judged(tokenctl.import_lanes, text, boolean, text, text),
  tokenctl.import_apply_v1(text, integer, integer, text, text), tokenctl.import_reopen(text, boolean),
  tokenctl.batch_begin(text, jsonb), tokenctl.import_begin_v1(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tokenctl.import_apply_v1(text, integer, integer, text, text), tokenctl.import_begin_v1(text, jsonb) TO tokenctl_batch;
