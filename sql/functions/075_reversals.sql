-- The reversal of many entries: of a batch, or of all that one operator did in a time. Its rows
-- come from the ledger and not from a client; planned and posted they are as an import's are.

-- Whether entry `t` is an operator's doing: of the session's role, or of the user whom the client
-- claimed to be, with or without host.
CREATE OR REPLACE FUNCTION tokenctl.done_by(p_name text, p_since timestamptz, p_until timestamptz) RETURNS text
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN format('(t.operator = %1$L OR t.claimed_by = %1$L OR starts_with(t.claimed_by, %2$L)) AND t.created_at >= %3$L AND t.created_at < %4$L',
    p_name, p_name || '@', p_since, p_until);
END
$$;

-- Make the reversal's row and its staging table. p_reverses names a batch, or p_operator, p_since
-- and p_until what an operator did. Answers `open`, `resume` (an earlier run was cut off while
-- it posted), `done` (by a twin), `unknown_batch`, `not_finished` or `not_allowed`.
CREATE OR REPLACE FUNCTION tokenctl.reversal_open_v1(
  p_batch text, p_reverses text, p_operator text, p_since timestamptz, p_until timestamptz,
  p_reason text, p_note text, p_ticket text, p_request_id text, p_claimed_by text
) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  v_state text;
BEGIN
  IF NOT pg_has_role(session_user, 'tokenctl_batch', 'MEMBER') THEN
    PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'reverse-many', 'not_allowed', coalesce(p_reverses, p_operator), '{}');
    RETURN 'not_allowed';
  END IF;
  IF p_reverses IS NOT NULL THEN
    SELECT b.state INTO v_state FROM tokenctl.import_batches b WHERE b.batch_id = p_reverses;
    IF v_state IS DISTINCT FROM 'done' THEN
      RETURN CASE WHEN v_state IS NULL THEN 'unknown_batch' ELSE 'not_finished' END;
    END IF;
  END IF;
  SELECT b.state INTO v_state FROM tokenctl.import_batches b WHERE b.batch_id = p_batch;
  IF v_state = 'done' THEN
    RETURN 'done';
  END IF;
  PERFORM tokenctl.import_demand_lock(p_batch);
  PERFORM tokenctl.import_reap();
  -- One that was given up before it began is begun anew: it has its own end, reason, note and ticket.
  DELETE FROM tokenctl.import_batches b
  WHERE b.batch_id = p_batch AND b.state = 'staging'
    AND (b.reverses_batch, b.reverses_operator, b.reverses_since) IS NOT DISTINCT FROM (p_reverses, p_operator, p_since);
  -- One that was cut off is finished with the reason and the end that it began with, so that
  -- what it posted is known as its own. Its slices are counted when its rows are there.
  INSERT INTO tokenctl.import_batches AS b (batch_id, kind, options, slices, reverses_batch, reverses_operator, reverses_since,
    reverses_until, reason, operator, claimed_by, request_id)
  VALUES (p_batch, 'reversal', jsonb_strip_nulls(jsonb_build_object('note', p_note, 'ticket', p_ticket, 'until', p_until)), 1,
    p_reverses, p_operator, p_since, CASE WHEN p_operator IS NOT NULL THEN least(p_until, clock_timestamp()) END,
    p_reason, session_user, p_claimed_by, p_request_id)
  ON CONFLICT (batch_id) DO UPDATE SET opened_as = tokenctl.opened_as(excluded)
  WHERE (b.reverses_batch, b.reverses_operator, b.reverses_since)
    IS NOT DISTINCT FROM (excluded.reverses_batch, excluded.reverses_operator, excluded.reverses_since);
  IF NOT FOUND THEN
    RAISE EXCEPTION 'batch % is other work', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  PERFORM tokenctl.staging_create(p_batch, 'amount <> 0 AND line >> 40 = 0 AND kind <> '''' AND idempotency_key <> '''' AND reverses_seq >= 1', NULL);
  RETURN CASE v_state WHEN 'applying' THEN 'resume' ELSE 'open' END;
END
$$;

-- Stage one partition: answers how many entries are to be reversed and, where none is, whether there were
-- any. What this very reversal posted before it was cut off is staged again, so that its slices count the
-- same; their lanes are done and post nothing twice.
--
-- An entry is reversed once, so where it was reversed and that was undone, the newest link of its chain is
-- what must be reversed. In a chain of links, each reversing the one before, two neighbours of which both are
-- chosen, or neither is, cancel each other out. What remains are chosen ones and others' by turns: when
-- the last is chosen it counts, and the newest link is reversed; when it is another's, others have settled it
-- and it is left as they left it. But for one case: where the newest link is of a batch that undid a reversal
-- of this very choice, that batch is what is to be reversed, or its state and that of the reversal which it
-- undid would say what is not so. It is answered as `given_back`, and such entries are not staged.
--
-- In a user's rows what is given back stands first and what is taken back after it, the
-- smallest first: so a balance is never below its end, and as many as possible can be reversed.
CREATE OR REPLACE FUNCTION tokenctl.reversal_stage_v1(p_batch text, p_part integer, OUT staged bigint, OUT chosen boolean, OUT given_back text)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB'
AS $$
DECLARE
  batch     tokenctl.import_batches := tokenctl.import_own(p_batch);
  v_table   text := tokenctl.staging_part(p_batch, p_part);
  v_entries text := format('tokenctl.%I', 'token_transactions_' || p_part);
  -- For a batch no time is compared: a clock that was set back must not leave entries out.
  v_chosen  text := CASE WHEN batch.reverses_batch IS NOT NULL THEN format('t.batch_id IS NOT DISTINCT FROM %L', batch.reverses_batch)
    ELSE tokenctl.done_by(batch.reverses_operator, batch.reverses_since, batch.reverses_until) END;
  v_line    text[];
BEGIN
  IF batch.kind <> 'reversal' THEN
    RAISE EXCEPTION 'batch % is no reversal', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  WITH RECURSIVE line AS (
    SELECT b.batch_id FROM tokenctl.import_batches b
    WHERE b.reverses_batch = batch.reverses_batch OR b.reverses_operator = batch.reverses_operator
      AND b.reverses_since = batch.reverses_since AND (b.options ->> 'until')::timestamptz IS NOT DISTINCT FROM (batch.options ->> 'until')::timestamptz
    UNION
    SELECT b.batch_id FROM line l JOIN tokenctl.import_batches b ON b.reverses_batch = l.batch_id)
  SELECT array_agg(line.batch_id) INTO v_line FROM line WHERE line.batch_id <> p_batch;
  -- Asked a second time, when the answer was lost. What a plan summed up is of other rows then.
  EXECUTE format('DELETE FROM %s', v_table);
  EXECUTE format('DELETE FROM %s WHERE part = $1', tokenctl.staging_sums(p_batch)) USING p_part;
  EXECUTE format($sql$
    WITH RECURSIVE chosen AS MATERIALIZED (
      SELECT t.user_id, t.seq, t.amount, t.kind, t.batch_id, t.reverses_seq, r.seq IS NULL AND (t.reverses_seq IS NULL OR NOT $5) AS is_alone
      FROM %2$s t LEFT JOIN %2$s r ON r.user_id = t.user_id AND r.reverses_seq = t.seq AND r.batch_id IS DISTINCT FROM $4
      WHERE %3$s AND t.batch_id IS DISTINCT FROM $4),
    -- A batch has one link in a chain at most, an operator may have several: his are read from the first entry on.
    down AS (
      SELECT user_id, seq, reverses_seq FROM chosen WHERE NOT is_alone
      UNION
      SELECT t.user_id, t.seq, t.reverses_seq FROM down d JOIN %2$s t ON t.user_id = d.user_id AND t.seq = d.reverses_seq WHERE $5),
    up AS (
      SELECT t.user_id, t.seq AS bottom, 1 AS n, t.seq, t.amount, t.kind, t.batch_id, 1 AS remain, %3$s AS is_ours
      FROM down d JOIN %2$s t USING (user_id, seq) WHERE d.reverses_seq IS NULL OR NOT $5
      UNION ALL
      SELECT t.user_id, u.bottom, u.n + 1, t.seq, t.amount, t.kind, t.batch_id,
        CASE WHEN u.remain > 0 AND u.is_ours = (%3$s) THEN u.remain - 1 ELSE u.remain + 1 END,
        CASE WHEN u.remain > 0 AND u.is_ours = (%3$s) THEN NOT (%3$s) ELSE (%3$s) END
      FROM up u JOIN %2$s t ON t.user_id = u.user_id AND t.reverses_seq = u.seq AND t.batch_id IS DISTINCT FROM $4),
    standing AS MATERIALIZED (
      SELECT user_id, seq, amount, kind, NULL AS given_back FROM chosen WHERE is_alone
      UNION ALL
      SELECT user_id, seq, amount, kind, CASE WHEN batch_id = ANY ($6) THEN batch_id END
      FROM (SELECT DISTINCT ON (user_id, bottom) * FROM up ORDER BY user_id, bottom, n DESC) newest WHERE remain > 0 AND is_ours),
    staged AS (
      INSERT INTO %1$s (line, user_id, amount, kind, reason, note, ticket, idempotency_key, reverses_seq)
      SELECT row_number() OVER (ORDER BY t.user_id, t.amount, t.seq), t.user_id, -t.amount, t.kind, $1, $2, $3, 'reverse:' || t.seq, t.seq
      FROM standing t WHERE t.given_back IS NULL RETURNING 1)
    SELECT (SELECT count(*) FROM staged), (SELECT max(given_back) FROM standing) $sql$, v_table, v_entries, v_chosen)
  INTO staged, given_back
  USING batch.reason, batch.options ->> 'note', batch.options ->> 'ticket', p_batch, batch.reverses_operator IS NOT NULL, v_line;
  chosen := staged > 0;
  IF staged = 0 THEN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s t WHERE %s)', v_entries, v_chosen) INTO chosen;
  END IF;
END
$$;

-- All is staged: how many rows, and into how many slices of a partition they are cut. Those of
-- one that was cut off stay as they were, so that its finished ones still mean the same users.
CREATE OR REPLACE FUNCTION tokenctl.reversal_staged_v1(p_batch text, p_rows bigint, p_slices integer) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
BEGIN
  PERFORM tokenctl.import_own(p_batch);
  UPDATE tokenctl.import_batches b SET rows_read = p_rows, slices = p_slices
  WHERE b.batch_id = p_batch AND b.kind = 'reversal' AND b.state = 'staging';
END
$$;

-- What one partition of a staged reversal comes to: entries and tokens that are taken from users
-- and given back to them, by kind. What it posted before it was cut off is counted, too.
CREATE OR REPLACE FUNCTION tokenctl.reversal_totals_v1(p_batch text, p_part integer)
  RETURNS TABLE (kind text, entries bigint, taken bigint, given bigint)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tokenctl.import_own(p_batch);
  RETURN QUERY EXECUTE format($sql$
    SELECT s.kind::text, count(*), coalesce(-sum(s.amount) FILTER (WHERE s.amount < 0), 0)::bigint,
      coalesce(sum(s.amount) FILTER (WHERE s.amount > 0), 0)::bigint
    FROM %s s GROUP BY s.kind $sql$, tokenctl.staging_part(p_batch, p_part));
END
$$;

-- Leave out, in one partition of a planned reversal, what cannot be reversed as things stand: it is marked in
-- the staging, and the posting keeps to that. So what was told and confirmed is the most that moves, whoever gets
-- tokens meanwhile. Answers the users with their `problem`: `refused` who lacks tokens, spent or held since (the
-- entries from the one on for which they do not suffice), or `too_large` whose balance would pass what it can
-- hold, because what is given back stands first (all entries); what all entries want of a user, and how many
-- that are left out, taking and giving how much.
CREATE OR REPLACE FUNCTION tokenctl.reversal_leave_out_v1(p_batch text, p_part integer)
  RETURNS TABLE (user_id text, problem text, wanted bigint, available bigint, balance bigint, entries bigint, taken bigint, given bigint)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  batch   tokenctl.import_batches := tokenctl.import_own(p_batch);
  v_table text := tokenctl.staging_part(p_batch, p_part);
BEGIN
  IF batch.kind <> 'reversal' THEN
    RAISE EXCEPTION 'batch % is no reversal', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  EXECUTE format('UPDATE %s SET left_out = NULL WHERE left_out IS NOT NULL', v_table);
  RETURN QUERY EXECUTE format($sql$
    WITH wanted AS MATERIALIZED (
      SELECT s.user_id, s.line, s.amount FROM %1$s s
      WHERE NOT EXISTS (SELECT FROM %2$s r WHERE r.user_id = s.user_id AND r.reverses_seq = s.reverses_seq)),
    stuck AS MATERIALIZED (
      SELECT w.user_id, w.tokens, a.balance, a.balance - h.held AS available, CASE
        WHEN a.balance + w.given > 9007199254740991 THEN 'too_large'
        WHEN w.tokens > 0 AND a.balance - h.held < w.tokens THEN 'refused' END AS problem
      FROM (SELECT user_id, -sum(amount) AS tokens, coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS given FROM wanted GROUP BY user_id) w
      JOIN %3$s a USING (user_id) CROSS JOIN LATERAL (SELECT %4$s AS held OFFSET 0) h),
    out AS MATERIALIZED (
      SELECT * FROM (
        SELECT s.*, w.line, w.amount, s.available + sum(w.amount) OVER (PARTITION BY w.user_id ORDER BY w.line) AS running
        FROM stuck s JOIN wanted w USING (user_id) WHERE s.problem IS NOT NULL) judged
      WHERE problem <> 'refused' OR amount < 0 AND running < 0),
    marked AS (UPDATE %1$s s SET left_out = o.problem FROM out o WHERE s.user_id = o.user_id AND s.line = o.line)
    SELECT user_id::text, problem, tokens::bigint, greatest(available, 0), balance, count(*),
      coalesce(-sum(amount) FILTER (WHERE amount < 0), 0)::bigint, coalesce(sum(amount) FILTER (WHERE amount > 0), 0)::bigint
    FROM out GROUP BY user_id, problem, tokens, available, balance $sql$,
    v_table, format('tokenctl.%I', 'token_transactions_' || p_part), format('tokenctl.%I', 'token_accounts_' || p_part), tokenctl.held_by_a(p_part));
END
$$;

-- Confirmed, with the total that was: as import_begin_v1. Whoever finishes it is held to that total, or to
-- the one that he confirms. A finished slice that left something out is judged again, too: it may be possible
-- now, or others may have reversed it. So what is read is what is staged for the slices, and adds up.
CREATE OR REPLACE FUNCTION tokenctl.reversal_begin_v1(p_batch text, p_total bigint) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  batch tokenctl.import_batches := tokenctl.import_own(p_batch);
BEGIN
  IF batch.kind <> 'reversal' THEN
    RAISE EXCEPTION 'batch % is no reversal', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  -- A crash of the server empties the staging, and a client behind a pooler need not notice: of rows that are
  -- gone before they are planned there is no lane that would miss them.
  IF batch.state = 'staging' AND batch.rows_read IS DISTINCT FROM
    (SELECT coalesce(sum(l.staged), 0) FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch)
  THEN
    RAISE EXCEPTION 'the staged rows of batch % are gone', p_batch USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'staging_lost';
  END IF;
  PERFORM tokenctl.import_reopen(p_batch, true);
  PERFORM tokenctl.batch_begin(p_batch, jsonb_build_object('total', p_total));
  UPDATE tokenctl.import_batches b SET rows_read = (SELECT coalesce(sum(l.staged), 0) FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch)
  WHERE b.batch_id = p_batch;
END
$$;

REVOKE ALL ON FUNCTION tokenctl.done_by(text, timestamptz, timestamptz),
  tokenctl.reversal_open_v1(text, text, text, timestamptz, timestamptz, text, text, text, text, text),
  tokenctl.reversal_stage_v1(text, integer), tokenctl.reversal_staged_v1(text, bigint, integer),
  tokenctl.reversal_totals_v1(text, integer), tokenctl.reversal_leave_out_v1(text, integer),
  tokenctl.reversal_begin_v1(text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tokenctl.reversal_stage_v1(text, integer), tokenctl.reversal_staged_v1(text, bigint, integer),
  tokenctl.reversal_totals_v1(text, integer), tokenctl.reversal_leave_out_v1(text, integer),
  tokenctl.reversal_begin_v1(text, bigint) TO tokenctl_batch;
-- A support role gets its refusal, and an audit row, from the function itself.
GRANT EXECUTE ON FUNCTION tokenctl.reversal_open_v1(text, text, text, timestamptz, timestamptz, text, text, text, text, text)
  TO tokenctl_support, tokenctl_batch;
