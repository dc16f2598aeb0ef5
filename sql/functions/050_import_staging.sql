-- An import, step one: its row in import_batches and a staging table to COPY into.
--
-- The staging table is unlogged, hash-partitioned like the ledger, and only the
-- session's own role may insert into it, until import_seal_v1 takes that away. The
-- client holds a transaction-level advisory lock for as long as it works (import_lock_v1
-- in a transaction that it keeps open): it frees itself when the client dies, and
-- works behind a pooler in transaction mode.

CREATE OR REPLACE FUNCTION tokenctl.import_lock_v1(p_batch text) RETURNS boolean
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN pg_try_advisory_xact_lock(hashtextextended('tokenctl import ' || p_batch, 0));
END
$$;

-- Staging is dropped and made anew by whoever opens a batch, so only the holder of its
-- lock may: the client that locked it, known by its login because behind a pooler lock
-- and call come over different connections.
CREATE OR REPLACE FUNCTION tokenctl.import_demand_lock(p_batch text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_key bigint := hashtextextended('tokenctl import ' || p_batch, 0);
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.usename = session_user
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.classid::bigint = ((v_key >> 32) & 4294967295) AND l.objid::bigint = (v_key & 4294967295))
  THEN
    RAISE EXCEPTION '% does not hold the lock of batch %', session_user, p_batch USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'batch_lost';
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION tokenctl.staging_table(p_batch text) RETURNS text
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN format('tokenctl_staging.%I', 'batch_' || p_batch);
END
$$;

-- Of each staged user tokens and entries, which a slice adds to his account, and the XOR of a hash of
-- each row's line, or of what it reverses, by which a slice knows its rows again.
CREATE OR REPLACE FUNCTION tokenctl.staging_sums(p_batch text) RETURNS text
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN format('tokenctl_staging.%I', 'sums_' || p_batch);
END
$$;

CREATE OR REPLACE FUNCTION tokenctl.staging_drop(p_batch text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $$
BEGIN
  EXECUTE format('DROP TABLE IF EXISTS %s, %s', tokenctl.staging_table(p_batch), tokenctl.staging_sums(p_batch));
END
$$;

-- Drop what dead clients left: a batch that nobody holds the lock of. A batch
-- that had not begun to post is forgotten whole; one that had keeps its row and its
-- finished slices, so that the same command finishes it. The list may be old by the time
-- a lock is ours, so the state is asked again.
CREATE OR REPLACE FUNCTION tokenctl.import_reap() RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  dead record;
BEGIN
  FOR dead IN SELECT b.batch_id FROM tokenctl.import_batches b WHERE b.state <> 'done' ORDER BY b.batch_id LOOP
    CONTINUE WHEN NOT pg_try_advisory_xact_lock(hashtextextended('tokenctl import ' || dead.batch_id, 0));
    PERFORM tokenctl.staging_drop(dead.batch_id);
    DELETE FROM tokenctl.import_batches b WHERE b.batch_id = dead.batch_id AND b.state = 'staging';
  END LOOP;
END
$$;

-- Of a batch that begins, who that is; kept apart while it is unfinished, until whoever opened it posts.
CREATE OR REPLACE FUNCTION tokenctl.opened_as(batch tokenctl.import_batches) RETURNS jsonb
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN jsonb_build_object('operator', batch.operator, 'claimed_by', batch.claimed_by, 'request_id', batch.request_id);
END
$$;

-- p_check is true for every row, and so nothing that it compares is missing: one CHECK, because NOT NULL beside it
-- cost the copy a fifteenth, and each of them a row in the catalog for every partition. p_campaign is that of all rows, or NULL.
CREATE OR REPLACE FUNCTION tokenctl.staging_create(p_batch text, p_check text, p_campaign text) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
AS $$
DECLARE
  v_table text := tokenctl.staging_table(p_batch);
  v_parts integer := tokenctl.partition_count();
BEGIN
  PERFORM tokenctl.staging_drop(p_batch);
  EXECUTE format('CREATE UNLOGGED TABLE %s (part integer, user_id text COLLATE "C", tokens bigint NOT NULL, n bigint NOT NULL, lines bigint NOT NULL,'
    ' PRIMARY KEY (part, user_id)) WITH (autovacuum_enabled = off)', tokenctl.staging_sums(p_batch));
  EXECUTE format($sql$
    CREATE TABLE %s (
      -- In the order in which a plan needs them: to read a column is to read those before it. Whether a row is
      -- in a slice is told from user_id alone.
      user_id         text COLLATE "C",
      line            bigint,
      amount          bigint,
      reverses_seq    bigint,
      idempotency_key text COLLATE "C",
      reason          text COLLATE "C",
      -- Defaults are those of columns that a file may lack.
      kind            text COLLATE "C" DEFAULT 'bonus',
      note            text,
      ticket          text COLLATE "C",
      campaign        text COLLATE "C" DEFAULT %L,
      -- Of a reversal: why the plan left the row out (reversal_leave_out_v1).
      left_out        text COLLATE "C",
      CONSTRAINT staged_rows CHECK ((user_id IS NOT NULL AND reason IS NOT NULL AND %s) IS TRUE)
    ) PARTITION BY HASH (user_id) $sql$, v_table, p_campaign, p_check);
  -- A good row fits in a page, so no partition needs a TOAST table: those and their indexes took more
  -- than half of the time here.
  EXECUTE format('ALTER TABLE %s ALTER user_id SET STORAGE PLAIN, ALTER kind SET STORAGE PLAIN, ALTER reason SET STORAGE PLAIN,'
    ' ALTER note SET STORAGE PLAIN, ALTER ticket SET STORAGE PLAIN, ALTER idempotency_key SET STORAGE PLAIN,'
    ' ALTER campaign SET STORAGE PLAIN, ALTER left_out SET STORAGE PLAIN', v_table);
  FOR i IN 0 .. v_parts - 1 LOOP
    EXECUTE format('CREATE UNLOGGED TABLE tokenctl_staging.%I PARTITION OF %s FOR VALUES WITH (MODULUS %s, REMAINDER %s) WITH (autovacuum_enabled = off)',
      'batch_' || p_batch || '_' || i, v_table, v_parts, i);
  END LOOP;
END
$$;

-- Whether a batch is undone today, if only in part: there may have been several reversals, each of
-- what the ones before it left out, and each may have been reversed in its turn.
CREATE OR REPLACE FUNCTION tokenctl.batch_is_reversed(p_batch text) RETURNS boolean
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM tokenctl.import_batches r
    WHERE r.reverses_batch = p_batch AND (r.state = 'applying' OR r.applied > 0) AND NOT tokenctl.batch_is_reversed(r.batch_id));
END
$$;

-- Answers `open` (copy now), `resume` (copy now; an earlier run was cut off while it
-- posted), `done` (imported before), `reversed` (imported and then reversed) or
-- `not_allowed`. The batch's row says the rest. The client may fill a file's columns and
-- no others: the campaign stands in p_options, and what a row reverses is not the
-- client's to say.
CREATE OR REPLACE FUNCTION tokenctl.import_open_v1(
  p_batch text, p_file_name text, p_sha256 text, p_size bigint, p_options jsonb, p_slices integer, p_request_id text, p_claimed_by text
) RETURNS text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  v_state text;
BEGIN
  IF NOT pg_has_role(session_user, 'tokenctl_batch', 'MEMBER') THEN
    PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'import', 'not_allowed', p_batch, jsonb_build_object('file', p_file_name));
    RETURN 'not_allowed';
  END IF;
  SELECT CASE WHEN tokenctl.batch_is_reversed(p_batch) THEN 'reversed' ELSE b.state END
    INTO v_state FROM tokenctl.import_batches b WHERE b.batch_id = p_batch;
  IF v_state IN ('done', 'reversed') THEN
    IF v_state = 'reversed' THEN
      PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'import', 'replay_reversed', p_batch, jsonb_build_object('file', p_file_name));
    END IF;
    RETURN v_state;
  END IF;
  PERFORM tokenctl.import_demand_lock(p_batch);
  PERFORM tokenctl.import_reap();
  -- One that was given up before it began is begun anew, by its new name.
  DELETE FROM tokenctl.import_batches b
  WHERE b.batch_id = p_batch AND b.state = 'staging' AND b.file_sha256 = p_sha256 AND b.options = p_options;
  -- The slices of a batch that was cut off stay as they were, so that its finished
  -- ones still mean the same users.
  INSERT INTO tokenctl.import_batches AS b (batch_id, kind, file_name, file_sha256, file_size, options, slices, operator, claimed_by, request_id)
  VALUES (p_batch, 'import', p_file_name, p_sha256, p_size, p_options, p_slices, session_user, p_claimed_by, p_request_id)
  ON CONFLICT (batch_id) DO UPDATE SET opened_as = tokenctl.opened_as(excluded)
  WHERE b.file_sha256 = excluded.file_sha256 AND b.options - 'asked' = excluded.options;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'batch % is other work', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  -- Keys of the ledger's own are refused as in tokenctl.demand_free_key: `;` follows `:`, so between
  -- the two lies what begins so. Comparisons, because they are three times as quick here as
  -- starts_with and a list, and nested, because the first one settles most keys: the server is what a COPY waits for.
  PERFORM tokenctl.staging_create(p_batch, $check$amount > 0 AND line >> 40 = 0 AND (kind = 'bonus' OR kind = 'purchase')
    AND (idempotency_key < 'generation:' OR idempotency_key >= 'generation;'
      AND (idempotency_key < 'reverse:' OR idempotency_key >= 'reverse;'))$check$, p_options ->> 'campaign');
  EXECUTE format('GRANT INSERT (line, user_id, amount, kind, reason, note, ticket, idempotency_key) ON %s TO %I',
    tokenctl.staging_table(p_batch), session_user);
  RETURN CASE v_state WHEN 'applying' THEN 'resume' ELSE 'open' END;
END
$$;

-- No more rows from the client: from here on only the functions touch the staging.
CREATE OR REPLACE FUNCTION tokenctl.import_seal_v1(p_batch text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
BEGIN
  PERFORM tokenctl.import_own(p_batch);
  EXECUTE format('REVOKE INSERT (line, user_id, amount, kind, reason, note, ticket, idempotency_key) ON %s FROM %I',
    tokenctl.staging_table(p_batch), session_user);
END
$$;

-- Every step belongs to whoever opened the batch; `request_id` is of that run.
CREATE OR REPLACE FUNCTION tokenctl.import_own(p_batch text) RETURNS tokenctl.import_batches
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  batch tokenctl.import_batches;
BEGIN
  SELECT * INTO batch FROM tokenctl.import_batches b
  WHERE b.batch_id = p_batch AND coalesce(b.opened_as ->> 'operator', b.operator) = session_user AND b.state <> 'done';
  IF NOT FOUND THEN
    RAISE EXCEPTION 'batch % is not open for %', p_batch, session_user USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'batch_lost';
  END IF;
  batch.request_id := coalesce(batch.opened_as ->> 'request_id', batch.request_id);
  RETURN batch;
END
$$;

-- The end: staging goes, and the batch is `done` with the sums of its slices, to which the rows of
-- the file must add up; or, when nothing was posted and nothing shall be (a dry run, bad rows), it is forgotten.
-- A client that gives up says so with p_rejected NULL: what an earlier run began to post
-- then stays as it is.
CREATE OR REPLACE FUNCTION tokenctl.import_close_v1(p_batch text, p_rows_read bigint, p_rejected bigint, p_duplicate bigint) RETURNS tokenctl.import_batches
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  batch tokenctl.import_batches := tokenctl.import_own(p_batch);
BEGIN
  PERFORM tokenctl.staging_drop(p_batch);
  IF batch.state = 'staging' THEN
    DELETE FROM tokenctl.import_batches b WHERE b.batch_id = p_batch;
    RETURN batch;
  END IF;
  IF p_rejected IS NULL OR EXISTS (SELECT FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch AND l.state = 'pending') THEN
    UPDATE tokenctl.import_batches b SET opened_as = NULL WHERE b.batch_id = p_batch;
    RETURN batch;
  END IF;
  UPDATE tokenctl.import_batches b
  SET state = 'done', opened_as = NULL, finished_at = clock_timestamp(), rows_read = coalesce(p_rows_read, b.rows_read),
      rejected = p_rejected, duplicate = p_duplicate, applied = l.applied, applied_tokens = l.applied_tokens,
      replayed = l.replayed, replayed_tokens = l.replayed_tokens, conflicting = l.conflicting, refused = l.refused
  FROM (SELECT coalesce(sum(i.applied), 0) AS applied, coalesce(sum(i.applied_tokens), 0) AS applied_tokens,
               coalesce(sum(i.replayed), 0) AS replayed, coalesce(sum(i.replayed_tokens), 0) AS replayed_tokens,
               coalesce(sum(i.conflicting), 0) AS conflicting, coalesce(sum(i.refused), 0) AS refused
        FROM tokenctl.import_lanes i WHERE i.batch_id = p_batch) l
  WHERE b.batch_id = p_batch
  RETURNING * INTO batch;
  RETURN batch;
END
$$;

REVOKE ALL ON FUNCTION tokenctl.import_lock_v1(text), tokenctl.staging_table(text), tokenctl.staging_sums(text),
  tokenctl.staging_drop(text), tokenctl.import_reap(),
  tokenctl.import_demand_lock(text), tokenctl.staging_create(text, text, text), tokenctl.opened_as(tokenctl.import_batches),
  tokenctl.batch_is_reversed(text),
  tokenctl.import_open_v1(text, text, text, bigint, jsonb, integer, text, text),
  tokenctl.import_seal_v1(text), tokenctl.import_own(text), tokenctl.import_close_v1(text, bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tokenctl.batch_is_reversed(text) TO tokenctl_reader;
GRANT EXECUTE ON FUNCTION tokenctl.import_seal_v1(text), tokenctl.import_close_v1(text, bigint, bigint, bigint) TO tokenctl_batch;
-- A support role gets its refusal, and an audit row, from the function itself.
GRANT EXECUTE ON FUNCTION tokenctl.import_lock_v1(text),
  tokenctl.import_open_v1(text, text, text, bigint, jsonb, integer, text, text) TO tokenctl_support, tokenctl_batch;
