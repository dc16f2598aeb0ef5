-- Sealing: hash what was committed since the last seal, and chain it to that seal.
--
-- The form of what is hashed is fixed for ever and written down twice: here, and in
-- sql/queries/verify_ranges.sql and verify_seals.sql with tokenctl/storage/seals.py,
-- because whoever verifies must not have to believe a function of this database.
--   A row: `row1:`, its numbers each ended by `;` (created_at as microseconds since 1970),
--   its texts each as length in characters, `:`, text. NULL is `-`. UTF-8, sha256.
--   A range: the hashes of its rows in the order of seq, sha256.
--   A seal's content: the hashes of its ranges in the order of (user_id, last_seq), a
--   million at a time, sha256; and these in order, sha256 (a value ends at 1 GB).

-- One sealer at a time; until the transaction ends. A seal takes its snapshot before it
-- can take this lock, so seal_v1 looks again.
CREATE OR REPLACE FUNCTION tokenctl.seal_lock_v1() RETURNS boolean
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN pg_try_advisory_xact_lock(hashtextextended('tokenctl seal', 0));
END
$$;

-- Seal what this transaction sees and answer the seal; the last one when nothing is new,
-- and NULL when there is nothing at all. Who verified before in the same REPEATABLE READ
-- transaction seals exactly what was verified; what is committed meanwhile is in the next
-- seal. seq has no gaps in any snapshot, so every user's rows are sealed as a prefix. The
-- cost is one look per account, and reading and hashing what is new.
CREATE OR REPLACE FUNCTION tokenctl.seal_v1(p_request_id text, p_claimed_by text) RETURNS tokenctl.seals
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB'
AS $$
DECLARE
  last  tokenctl.seals;
  seal  tokenctl.seals;
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
    RAISE EXCEPTION 'a seal is made of one snapshot: BEGIN ISOLATION LEVEL REPEATABLE READ' USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  IF NOT tokenctl.seal_lock_v1() THEN
    RAISE EXCEPTION 'somebody else is sealing' USING ERRCODE = 'lock_not_available';
  END IF;
  SELECT * INTO last FROM tokenctl.seals s ORDER BY s.seal_no DESC LIMIT 1;
  seal.seal_no := coalesce(last.seal_no, 0) + 1;
  seal.previous := last.head;
  BEGIN
    seal := tokenctl.seal_ranges(seal);
    IF seal.entries = 0 THEN
      RETURN last;
    END IF;
    seal.sealed_at := clock_timestamp();
    seal.operator := session_user;
    seal.claimed_by := p_claimed_by;
    seal.request_id := p_request_id;
    seal.head := encode(sha256(convert_to(
      'seal1:' || coalesce(seal.previous, '-') || ';' || seal.seal_no || ';' || seal.content || ';'
      || seal.users || ';' || seal.entries || ';' || seal.tokens || ';' || (extract(epoch FROM seal.sealed_at) * 1000000)::bigint || ';'
      || length(seal.operator) || ':' || seal.operator || length(seal.claimed_by) || ':' || seal.claimed_by
      || length(seal.request_id) || ':' || seal.request_id, 'UTF8')), 'hex');
    INSERT INTO tokenctl.seals SELECT seal.*;
  EXCEPTION WHEN unique_violation THEN
    -- Somebody sealed between our snapshot and our lock; theirs stands.
    RAISE EXCEPTION 'somebody else sealed meanwhile' USING ERRCODE = 'lock_not_available';
  END;
  PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'seal', 'sealed', seal.seal_no::text,
    jsonb_build_object('head', seal.head, 'users', seal.users, 'entries', seal.entries));
  RETURN seal;
END
$$;

-- The ranges of a seal, partition by partition, and what they come to. The rows of each
-- user come from a look of their own (LATERAL with an aggregate), so that a seal of few
-- rows never reads a whole partition.
CREATE OR REPLACE FUNCTION tokenctl.seal_ranges(seal tokenctl.seals) RETURNS tokenctl.seals
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  FOR part IN 0 .. tokenctl.partition_count() - 1 LOOP
    EXECUTE format($sql$
      INSERT INTO tokenctl.%3$I (user_id, first_seq, last_seq, seal_no, tokens, rows_sha256)
      SELECT c.user_id, r.first_seq, r.last_seq, $1, r.tokens, r.rows_sha256
      FROM (
        SELECT a.user_id, coalesce(s.last_seq, 0) AS sealed FROM tokenctl.%1$I a
        LEFT JOIN LATERAL (SELECT last_seq FROM tokenctl.%3$I WHERE user_id = a.user_id ORDER BY last_seq DESC LIMIT 1) s ON true
        WHERE a.last_seq > coalesce(s.last_seq, 0)) c
      CROSS JOIN LATERAL (
        SELECT min(t.seq) AS first_seq, max(t.seq) AS last_seq, sum(t.amount) AS tokens,
          sha256(string_agg(sha256(convert_to(
            'row1:' || length(t.user_id) || ':' || t.user_id || t.seq || ';' || t.amount || ';' || t.balance_after || ';'
            || (extract(epoch FROM t.created_at) * 1000000)::bigint || ';' || coalesce(t.reverses_seq || ';', '-')
            || length(t.kind) || ':' || t.kind || length(t.reason) || ':' || t.reason
            || coalesce(length(t.ticket) || ':' || t.ticket, '-') || coalesce(length(t.campaign) || ':' || t.campaign, '-')
            || length(t.operator) || ':' || t.operator || length(t.claimed_by) || ':' || t.claimed_by
            || length(t.request_id) || ':' || t.request_id || length(t.idempotency_key) || ':' || t.idempotency_key
            || coalesce(length(t.batch_id) || ':' || t.batch_id, '-') || coalesce(length(t.note) || ':' || t.note, '-'),
            'UTF8')), ''::bytea ORDER BY t.seq)) AS rows_sha256
        FROM tokenctl.%2$I t WHERE t.user_id = c.user_id AND t.seq > c.sealed
        GROUP BY (t.seq - 1) / 1000000) r $sql$,
      'token_accounts_' || part, 'token_transactions_' || part, 'sealed_ranges_' || part)
    USING seal.seal_no;
  END LOOP;
  SELECT encode(sha256(string_agg(p.page_sha256, ''::bytea ORDER BY p.page)), 'hex'), coalesce(sum(p.users), 0),
    coalesce(sum(p.entries), 0), coalesce(sum(p.tokens), 0)
  INTO seal.content, seal.users, seal.entries, seal.tokens
  FROM (
    SELECT r.page, sha256(string_agg(r.rows_sha256, ''::bytea ORDER BY r.user_id COLLATE "C", r.last_seq)) AS page_sha256,
      count(*) FILTER (WHERE r.is_first) AS users, sum(r.last_seq - r.first_seq + 1) AS entries, sum(r.tokens) AS tokens
    FROM (
      SELECT i.*, (row_number() OVER run - 1) / 1000000 AS page, lag(i.user_id) OVER run IS DISTINCT FROM i.user_id AS is_first
      FROM tokenctl.sealed_ranges i WHERE i.seal_no = seal.seal_no
      WINDOW run AS (ORDER BY i.user_id COLLATE "C", i.last_seq)) r
    GROUP BY r.page) p;
  RETURN seal;
END
$$;

REVOKE ALL ON FUNCTION tokenctl.seal_lock_v1(), tokenctl.seal_v1(text, text), tokenctl.seal_ranges(tokenctl.seals) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tokenctl.seal_lock_v1(), tokenctl.seal_v1(text, text) TO tokenctl_admin;
