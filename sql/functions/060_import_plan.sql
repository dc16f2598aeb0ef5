-- An import, step two: what would happen, from the real rules on the real data, one
-- partition a call so that several connections share the work.

-- Users are spread over slices by a hash that is independent of the partition's.
CREATE OR REPLACE FUNCTION tokenctl.slice_of(p_slices integer) RETURNS text
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN CASE WHEN p_slices = 1 THEN '0' ELSE format('(hashtext(user_id) & 2147483647) %% %s', p_slices) END;
END
$$;

-- Whether grant `t` was taken back: a row that says the same again is no replay then. The
-- index look spares nearly all entries the walk along a chain of reversals.
CREATE OR REPLACE FUNCTION tokenctl.taken_back(p_part integer) RETURNS text
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN format('(t.reverses_seq IS NULL AND EXISTS (SELECT FROM tokenctl.%I r WHERE r.user_id = t.user_id AND r.reverses_seq = t.seq)'
    ' AND tokenctl.effective_reversal(t.user_id, t.seq) IS NOT NULL)', 'token_transactions_' || p_part);
END
$$;

-- Rows of one partition that must not be posted, by line: a key that the ledger has
-- with other content, one whose entry was reversed since, a key that stands twice in the file with unequal content, and
-- with p_known_only a user whom the ledger does not know. What an earlier run, cut off
-- since, found when it posted is counted in its lane and not told again.
CREATE OR REPLACE FUNCTION tokenctl.import_findings_v1(p_batch text, p_part integer, p_known_only boolean)
  RETURNS TABLE (line bigint, problem text, user_id text, idempotency_key text, other text)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tokenctl.import_own(p_batch);
  RETURN QUERY EXECUTE format($sql$
    SELECT s.line, 'conflict', s.user_id, s.idempotency_key, t.user_id || ':' || t.seq
    FROM %1$s s JOIN tokenctl.%2$I t USING (user_id, idempotency_key)
    WHERE (s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq)
      IS DISTINCT FROM (t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)
      AND NOT EXISTS (
        SELECT FROM tokenctl.import_lanes l, jsonb_array_elements(l.findings) AS f
        WHERE l.batch_id = $2 AND l.part = $3 AND (f ->> 'line')::bigint = s.line)
    UNION ALL
    SELECT s.line, 'reversed', s.user_id, s.idempotency_key, t.user_id || ':' || t.seq
    FROM %1$s s JOIN tokenctl.%2$I t USING (user_id, idempotency_key)
    WHERE (s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq)
      IS NOT DISTINCT FROM (t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)
      AND t.batch_id IS DISTINCT FROM $2 AND %4$s
    UNION ALL
    SELECT s.line, 'repeated', s.user_id, s.idempotency_key, k.first_line::text
    FROM %1$s s JOIN (
      SELECT user_id, idempotency_key, min(line) AS first_line FROM %1$s GROUP BY 1, 2
      HAVING count(*) > 1 AND count(DISTINCT (kind, amount, reason, ticket)) > 1) k USING (user_id, idempotency_key)
    UNION ALL
    SELECT s.line, 'unknown_user', s.user_id, s.idempotency_key, NULL
    FROM %1$s s WHERE $1 AND NOT EXISTS (SELECT FROM tokenctl.%3$I a WHERE a.user_id = s.user_id)
    $sql$, tokenctl.staging_part(p_batch, p_part), 'token_transactions_' || p_part, 'token_accounts_' || p_part, tokenctl.taken_back(p_part))
  USING p_known_only, p_batch, p_part;
END
$$;

CREATE OR REPLACE FUNCTION tokenctl.staging_part(p_batch text, p_part integer) RETURNS text
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN format('tokenctl_staging.%I', 'batch_' || p_batch || '_' || p_part);
END
$$;

-- Counts of one partition, and its lanes. Equal rows that stand twice are taken out
-- of the staging (`duplicate`); with p_drop the findings above are taken out too. `own`
-- counts rows that this batch posted before it was cut off.
CREATE OR REPLACE FUNCTION tokenctl.import_plan_v1(p_batch text, p_part integer, p_known_only boolean, p_drop boolean)
  RETURNS TABLE (staged bigint, tokens bigint, users bigint, new_users bigint, repeated_users bigint, duplicate bigint, findings bigint,
    replayed bigint, replayed_tokens bigint, own bigint, own_tokens bigint, largest_user text, largest_tokens bigint)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB'
AS $$
#variable_conflict use_column
DECLARE
  batch      tokenctl.import_batches := tokenctl.import_own(p_batch);
  v_table    text := tokenctl.staging_part(p_batch, p_part);
  v_entries  text := format('tokenctl.%I', 'token_transactions_' || p_part);
  v_accounts text := format('tokenctl.%I', 'token_accounts_' || p_part);
  v_same     text := '(s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq) IS NOT DISTINCT FROM '
                     '(t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)';
  v_repeated boolean;
  v_reason   text;
  v_known    text;
  v_other    bigint;
  v_lines    bigint[];
  v_lanes    jsonb;
BEGIN
  duplicate := 0;
  findings := 0;
  EXECUTE format('SELECT min(r.reason) FROM (SELECT reason FROM %s GROUP BY reason) r WHERE r.reason !~ %L', v_table, '^[a-z][a-z0-9_-]*$')
  INTO v_reason;
  IF v_reason IS NOT NULL THEN
    RAISE EXCEPTION 'a reason has not its form' USING ERRCODE = 'check_violation', CONSTRAINT = 'reason_form';
  END IF;
  -- One cheap look for what is rare; the queries that name the rows run only after it.
  EXECUTE format('SELECT EXISTS (SELECT FROM %s GROUP BY user_id, idempotency_key HAVING count(*) > 1)', v_table) INTO v_repeated;
  v_known := format($sql$
    SELECT count(*) FILTER (WHERE %3$s AND t.batch_id IS DISTINCT FROM $1),
      coalesce(sum(s.amount) FILTER (WHERE %3$s AND t.batch_id IS DISTINCT FROM $1), 0),
      count(*) FILTER (WHERE %3$s AND t.batch_id = $1), coalesce(sum(s.amount) FILTER (WHERE %3$s AND t.batch_id = $1), 0),
      count(*) FILTER (WHERE NOT (%3$s) OR t.batch_id IS DISTINCT FROM $1 AND %4$s)
    FROM %1$s s JOIN %2$s t USING (user_id, idempotency_key) $sql$, v_table, v_entries, v_same, tokenctl.taken_back(p_part));
  EXECUTE v_known INTO replayed, replayed_tokens, own, own_tokens, v_other USING p_batch;
  IF v_repeated OR v_other > 0 OR p_known_only THEN
    EXECUTE format($sql$
      DELETE FROM %1$s s USING (
        SELECT user_id, idempotency_key, min(line) AS first_line FROM %1$s GROUP BY 1, 2
        HAVING count(*) > 1 AND count(DISTINCT (kind, amount, reason, ticket)) = 1) k
      WHERE s.user_id = k.user_id AND s.idempotency_key = k.idempotency_key AND s.line > k.first_line $sql$, v_table);
    GET DIAGNOSTICS duplicate = ROW_COUNT;
    SELECT array_agg(DISTINCT f.line), count(DISTINCT f.line) INTO v_lines, findings
    FROM tokenctl.import_findings_v1(p_batch, p_part, p_known_only) f;
    IF p_drop AND findings > 0 THEN
      EXECUTE format('DELETE FROM %s s WHERE s.line = ANY ($1)', v_table) USING v_lines;
    END IF;
    IF duplicate > 0 OR p_drop AND findings > 0 THEN  -- what was taken out is not counted
      EXECUTE v_known INTO replayed, replayed_tokens, own, own_tokens, v_other USING p_batch;
    END IF;
  END IF;

  EXECUTE format($sql$
    WITH by_user AS MATERIALIZED (
      SELECT u.user_id, u.n, u.tokens, a.user_id IS NULL AS is_new
      FROM (SELECT user_id, count(*) AS n, tokenctl.sum_tokens(amount) AS tokens FROM %1$s GROUP BY user_id) u
      LEFT JOIN %2$s a USING (user_id)),
    by_slice AS (
      SELECT %3$s AS slice, sum(n) AS staged, sum(tokens) AS staged_tokens, count(*) AS staged_users
      FROM by_user GROUP BY 1)
    SELECT coalesce(sum(n), 0), coalesce(sum(tokens), 0), count(*), count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE n > 1),
      (array_agg(user_id ORDER BY abs(tokens) DESC, user_id))[1], max(abs(tokens)), (SELECT jsonb_agg(to_jsonb(l)) FROM by_slice l)
    FROM by_user $sql$, v_table, v_accounts, tokenctl.slice_of(batch.slices))
  INTO staged, tokens, users, new_users, repeated_users, largest_user, largest_tokens, v_lanes;
  DELETE FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch AND l.part = p_part AND l.state = 'pending';
  INSERT INTO tokenctl.import_lanes (batch_id, part, slice, staged, staged_tokens, staged_users)
  SELECT p_batch, p_part, l.slice, l.staged, l.staged_tokens, l.staged_users
  FROM jsonb_to_recordset(v_lanes) AS l(slice integer, staged bigint, staged_tokens bigint, staged_users bigint)
  ON CONFLICT DO NOTHING;
  -- A slice is found again three times; past some ten of them an index beats reading
  -- the partition each time.
  IF batch.slices > 10 THEN
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s ((%s))', 'slices_' || p_batch || '_' || p_part, v_table, tokenctl.slice_of(batch.slices));
  END IF;
  RETURN NEXT;
END
$$;

REVOKE ALL ON FUNCTION tokenctl.slice_of(integer), tokenctl.taken_back(integer), tokenctl.staging_part(text, integer),
  tokenctl.import_findings_v1(text, integer, boolean), tokenctl.import_plan_v1(text, integer, boolean, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tokenctl.import_findings_v1(text, integer, boolean), tokenctl.import_plan_v1(text, integer, boolean, boolean) TO tokenctl_batch;
