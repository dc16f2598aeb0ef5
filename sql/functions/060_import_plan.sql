-- An import, step two: what would happen, from the real rules on the real data, one
-- partition a call so that several connections share the work.

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
-- with other content, one whose entry was reversed since, a key that stands twice in the
-- file with unequal content, grants by which a balance would pass what it can hold, and
-- with p_known_only a user whom the ledger does not know. What an earlier run, cut off
-- since, found when it posted is counted in its lane and not told again.
CREATE OR REPLACE FUNCTION tokenctl.import_findings_v1(p_batch text, p_part integer, p_known_only boolean)
  RETURNS TABLE (line bigint, problem text, user_id text, idempotency_key text, other text)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  batch  tokenctl.import_batches := tokenctl.import_own(p_batch);
  v_told bigint[];
BEGIN
  SELECT coalesce(array_agg((f ->> 'line')::bigint), '{}') INTO v_told
  FROM tokenctl.import_lanes l, jsonb_array_elements(l.findings) AS f WHERE l.batch_id = p_batch AND l.part = p_part;
  RETURN QUERY EXECUTE format($sql$
    SELECT s.line, 'conflict', s.user_id, s.idempotency_key, t.user_id || ':' || t.seq
    FROM %1$s s JOIN tokenctl.%2$I t USING (user_id, idempotency_key)
    WHERE (s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq)
      IS DISTINCT FROM (t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)
      AND s.line <> ALL ($3)
    UNION ALL
    SELECT s.line, 'reversed', s.user_id, s.idempotency_key, t.user_id || ':' || t.seq
    FROM %1$s s JOIN tokenctl.%2$I t USING (user_id, idempotency_key)
    WHERE (s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq)
      IS NOT DISTINCT FROM (t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)
      AND t.batch_id IS DISTINCT FROM $2 AND %4$s AND s.line <> ALL ($3)
    UNION ALL
    SELECT s.line, 'repeated', s.user_id, s.idempotency_key, k.first_line::text
    FROM %1$s s JOIN (
      SELECT user_id, idempotency_key, min(line) AS first_line FROM %1$s GROUP BY 1, 2
      HAVING count(*) > 1 AND count(DISTINCT (kind, amount, reason, ticket)) > 1) k USING (user_id, idempotency_key)
    UNION ALL
    SELECT s.line, 'unknown_user', s.user_id, s.idempotency_key, NULL
    FROM %1$s s WHERE $1 AND NOT EXISTS (SELECT FROM tokenctl.%3$I a WHERE a.user_id = s.user_id)
    UNION ALL
    SELECT s.line, 'refused', s.user_id, s.idempotency_key, NULL
    FROM (
      SELECT s.line, s.user_id, s.idempotency_key, coalesce(a.balance, 0) + sum(s.amount) OVER (PARTITION BY s.user_id) AS balance
      FROM %1$s s LEFT JOIN tokenctl.%3$I a USING (user_id)
      WHERE $4 AND NOT EXISTS (SELECT FROM tokenctl.%2$I t WHERE t.user_id = s.user_id AND t.idempotency_key = s.idempotency_key)
        AND (s.user_id, s.idempotency_key) NOT IN (SELECT user_id, idempotency_key FROM %1$s GROUP BY 1, 2 HAVING count(*) > 1)) s
    WHERE s.balance > 9007199254740991 AND s.line <> ALL ($3)
    $sql$, tokenctl.staging_part(p_batch, p_part), 'token_transactions_' || p_part, 'token_accounts_' || p_part, tokenctl.taken_back(p_part))
  USING p_known_only, p_batch, v_told, batch.kind = 'import';
END
$$;

CREATE OR REPLACE FUNCTION tokenctl.staging_part(p_batch text, p_part integer) RETURNS text
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN format('tokenctl_staging.%I', 'batch_' || p_batch || '_' || p_part);
END
$$;

-- Sum up the staged rows of a partition for each user, and all of them: `too_large` when a balance would
-- pass what it can hold, `other_reasons` when there are some beside p_reasons.
CREATE OR REPLACE FUNCTION tokenctl.import_sum(p_batch text, p_part integer, p_reasons text[],
  OUT staged bigint, OUT tokens bigint, OUT users bigint, OUT new_users bigint, OUT largest_user text, OUT largest_tokens bigint,
  OUT too_large boolean, OUT other_reasons boolean)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE format('DELETE FROM %s WHERE part = $1', tokenctl.staging_sums(p_batch)) USING p_part;
  EXECUTE format($sql$
    WITH u AS MATERIALIZED (
      SELECT user_id, tokenctl.sum_tokens(amount) AS tokens, count(*) AS n, bit_xor(hashtextextended(user_id, coalesce(reverses_seq, line))) AS lines,
        bool_or(reason <> ALL ($2)) AS others
      FROM %2$s GROUP BY 1 ORDER BY 1),
    kept AS (INSERT INTO %1$s (part, user_id, tokens, n, lines) SELECT $1, user_id, tokens, n, lines FROM u)
    SELECT coalesce(sum(u.n), 0), coalesce(sum(u.tokens), 0), count(*), count(*) FILTER (WHERE a.user_id IS NULL),
      (array_agg(u.user_id ORDER BY abs(u.tokens) DESC, u.user_id))[1], max(abs(u.tokens)),
      coalesce(bool_or(u.tokens > 9007199254740991 - coalesce(a.balance, 0)), false), coalesce(bool_or(u.others), false)
    FROM u LEFT JOIN %3$s a USING (user_id) $sql$,
    tokenctl.staging_sums(p_batch), tokenctl.staging_part(p_batch, p_part), format('tokenctl.%I', 'token_accounts_' || p_part))
  INTO staged, tokens, users, new_users, largest_user, largest_tokens, too_large, other_reasons USING p_part, p_reasons;
END
$$;

-- What is staged now for each slice of a partition.
CREATE OR REPLACE FUNCTION tokenctl.import_slices(p_batch text, p_part integer)
  RETURNS TABLE (slice integer, staged bigint, tokens bigint, users bigint, lines bigint)
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY EXECUTE format($sql$
    SELECT b.slice, coalesce(sum(u.n), 0)::bigint, coalesce(sum(u.tokens), 0)::bigint, count(u.user_id), coalesce(bit_xor(u.lines), 0)
    FROM (SELECT l.slice, l.from_user, lead(l.from_user) OVER (ORDER BY l.from_user) AS until
          FROM tokenctl.import_lanes l WHERE l.batch_id = $1 AND l.part = $2 AND l.from_user IS NOT NULL) b
    LEFT JOIN %s u ON u.part = $2 AND u.user_id >= b.from_user AND (b.until IS NULL OR u.user_id < b.until)
    GROUP BY b.slice $sql$, tokenctl.staging_sums(p_batch))
  USING p_batch, p_part;
END
$$;

-- Cut one partition into slices of about as many rows, each of the users from one on: neighbours
-- in the indexes, so that a slice touches few of their pages. Where it was cut once it stays
-- cut, so that the finished slices of a batch that was cut off still mean the same users.
CREATE OR REPLACE FUNCTION tokenctl.import_cut(batch tokenctl.import_batches, p_part integer, p_rows bigint) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM tokenctl.import_lanes l WHERE l.batch_id = batch.batch_id AND l.part = p_part AND l.from_user IS NOT NULL) THEN
    UPDATE tokenctl.import_lanes l SET staged = c.staged, staged_tokens = c.tokens, staged_users = c.users, staged_lines = c.lines
    FROM tokenctl.import_slices(batch.batch_id, p_part) c
    WHERE l.batch_id = batch.batch_id AND l.part = p_part AND l.slice = c.slice AND l.state = 'pending';
    RETURN;
  END IF;
  -- Lanes that were made before slices had a first user: what they posted is judged again.
  DELETE FROM tokenctl.import_lanes l WHERE l.batch_id = batch.batch_id AND l.part = p_part;
  EXECUTE format($sql$
    INSERT INTO tokenctl.import_lanes (batch_id, part, slice, from_user, staged, staged_tokens, staged_users, staged_lines)
    SELECT $1, $2, s.slice, CASE s.slice WHEN 0 THEN '' ELSE min(s.user_id) END, sum(s.n), sum(s.tokens), count(*), bit_xor(s.lines)
    FROM (SELECT u.*, (tokenctl.sum_tokens(u.n) OVER (ORDER BY u.user_id ROWS UNBOUNDED PRECEDING) - u.n) * $3 / $4 AS slice
          FROM %s u WHERE u.part = $2) s
    GROUP BY s.slice $sql$, tokenctl.staging_sums(batch.batch_id))
  USING batch.batch_id, p_part, batch.slices, p_rows;
END
$$;

-- Counts of one partition, and its lanes. Equal rows that stand twice are taken out
-- of the staging (`duplicate`). Rows that must not be posted are counted (`findings`); a second call
-- takes out those whose lines it is given (p_drop), and looks for no others: what came up since
-- is judged when it is posted. `own` counts rows that this batch posted before it was cut off.
CREATE OR REPLACE FUNCTION tokenctl.import_plan_v1(p_batch text, p_part integer, p_known_only boolean, p_drop bigint[])
  RETURNS TABLE (staged bigint, tokens bigint, users bigint, new_users bigint, duplicate bigint, findings bigint,
    replayed bigint, replayed_tokens bigint, own bigint, own_tokens bigint, largest_user text, largest_tokens bigint)
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB'
  -- A few hundred rows tell the planner how many there are, and how unlike each other. The
  -- ledger's keys are quicker read from their index, where nothing else stands.
  SET default_statistics_target = 1 SET random_page_cost = 1
AS $$
#variable_conflict use_column
DECLARE
  batch      tokenctl.import_batches := tokenctl.import_own(p_batch);
  v_table    text := tokenctl.staging_part(p_batch, p_part);
  v_entries  text := format('tokenctl.%I', 'token_transactions_' || p_part);
  v_same     text := '(s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq) IS NOT DISTINCT FROM '
                     '(t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)';
  sums       record;
  v_hash     text := 'hashtextextended(idempotency_key, hashtextextended(user_id, 0))';
  v_suspect  boolean;
  v_repeated boolean := false;
  v_reasons  text[];
  v_bad      boolean;
  v_known    text;
  v_matches  bigint := 0;
  v_other    bigint;
BEGIN
  duplicate := 0;
  findings := 0;
  IF cardinality(p_drop) > 0 THEN
    EXECUTE format('DELETE FROM %s s WHERE s.line = ANY ($1)', v_table) USING p_drop;
  END IF;
  -- 1.5 ms, for which the smaller side of the join with the ledger is the one that is hashed.
  EXECUTE format('ANALYZE %s (user_id, idempotency_key)', v_table);
  -- A file has a few reasons, most of which stand in its first rows: only when the sums find others are all sought.
  EXECUTE format('SELECT array_agg(DISTINCT r.reason) FROM (SELECT reason FROM %s LIMIT 500) r', v_table) INTO v_reasons;
  sums := tokenctl.import_sum(p_batch, p_part, v_reasons);
  v_bad := EXISTS (SELECT FROM unnest(v_reasons) AS r WHERE r !~ '^[a-z][a-z0-9_-]*$');
  IF sums.other_reasons THEN  -- OFFSET keeps the pattern away from the single rows
    EXECUTE format('SELECT $1 OR EXISTS (SELECT FROM (SELECT reason FROM %s GROUP BY reason OFFSET 0) r WHERE r.reason !~ %L)',
      v_table, '^[a-z][a-z0-9_-]*$') INTO v_bad USING v_bad;
  END IF;
  IF v_bad THEN
    RAISE EXCEPTION 'a reason has not its form' USING ERRCODE = 'check_violation', CONSTRAINT = 'reason_form';
  END IF;
  -- Cheap looks for what is rare; the queries that say more run only after them. First whether any key stands
  -- twice, here or with those of the ledger: to sort whole numbers is quickest. Two keys of one hash are a needless look
  -- at more, and so is this one where the batch's own entries are in the ledger, or where that has many more.
  v_suspect := batch.state = 'applying' OR pg_relation_size(v_entries) > 16 * pg_relation_size(v_table);
  IF NOT v_suspect THEN
    EXECUTE format('SELECT count(*) > count(DISTINCT h) FROM (SELECT h FROM (SELECT %1$s AS h FROM %2$s UNION ALL SELECT %1$s FROM %3$s) k ORDER BY h) k',
      v_hash, v_table, v_entries) INTO v_suspect;
  END IF;
  v_known := format($sql$
    SELECT count(*) FILTER (WHERE %3$s AND t.batch_id IS DISTINCT FROM $1),
      coalesce(sum(s.amount) FILTER (WHERE %3$s AND t.batch_id IS DISTINCT FROM $1), 0),
      count(*) FILTER (WHERE %3$s AND t.batch_id = $1), coalesce(sum(s.amount) FILTER (WHERE %3$s AND t.batch_id = $1), 0),
      count(*) FILTER (WHERE NOT (%3$s) OR t.batch_id IS DISTINCT FROM $1 AND %4$s)
    FROM %1$s s JOIN %2$s t USING (user_id, idempotency_key) $sql$, v_table, v_entries, v_same, tokenctl.taken_back(p_part));
  IF v_suspect THEN
    EXECUTE format('SELECT count(DISTINCT %s) < $1 FROM %s', v_hash, v_table) INTO v_repeated USING sums.staged;
    EXECUTE format('SELECT count(*) FROM %s s JOIN %s t USING (user_id, idempotency_key)', v_table, v_entries) INTO v_matches;
  END IF;
  IF v_matches > 0 THEN
    EXECUTE v_known INTO replayed, replayed_tokens, own, own_tokens, v_other USING p_batch;
  ELSE
    replayed := 0; replayed_tokens := 0; own := 0; own_tokens := 0; v_other := 0;
  END IF;
  IF p_drop IS NULL AND (v_repeated OR sums.too_large AND batch.kind = 'import' OR v_other > 0 OR p_known_only) THEN
    EXECUTE format($sql$
      DELETE FROM %1$s s USING (
        SELECT user_id, idempotency_key, min(line) AS first_line FROM %1$s GROUP BY 1, 2
        HAVING count(*) > 1 AND count(DISTINCT (kind, amount, reason, ticket)) = 1) k
      WHERE s.user_id = k.user_id AND s.idempotency_key = k.idempotency_key AND s.line > k.first_line $sql$, v_table);
    GET DIAGNOSTICS duplicate = ROW_COUNT;
    SELECT count(DISTINCT f.line) INTO findings FROM tokenctl.import_findings_v1(p_batch, p_part, p_known_only) f;
    IF duplicate > 0 THEN  -- what was taken out is not counted
      EXECUTE v_known INTO replayed, replayed_tokens, own, own_tokens, v_other USING p_batch;
      sums := tokenctl.import_sum(p_batch, p_part, v_reasons);
    END IF;
  END IF;
  staged := sums.staged;
  tokens := sums.tokens;
  users := sums.users;
  new_users := sums.new_users;
  largest_user := sums.largest_user;
  largest_tokens := sums.largest_tokens;
  PERFORM tokenctl.import_cut(batch, p_part, staged);
  -- Past some ten slices an index beats reading the partition for each of them.
  IF batch.slices > 10 THEN
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (user_id)', 'slices_' || p_batch || '_' || p_part, v_table);
  END IF;
  RETURN NEXT;
END
$$;

REVOKE ALL ON FUNCTION tokenctl.import_sum(text, integer, text[]), tokenctl.import_slices(text, integer), tokenctl.import_cut(tokenctl.import_batches, integer, bigint), tokenctl.taken_back(integer), tokenctl.staging_part(text, integer),
  tokenctl.import_findings_v1(text, integer, boolean), tokenctl.import_plan_v1(text, integer, boolean, bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tokenctl.import_findings_v1(text, integer, boolean), tokenctl.import_plan_v1(text, integer, boolean, bigint[]) TO tokenctl_batch;
