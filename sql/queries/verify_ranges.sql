-- Sealed ranges of some users whose rows are not what was sealed: their hashes made anew
-- from the rows, in the form that sql/functions/080_seal.sql describes.
-- ranges, entries: one partition of each table, or the tables; up_to: bigint, the last
-- seal that counts; only: which users, as a condition on user_id
WITH found AS (
  SELECT r.user_id, r.first_seq, r.last_seq, r.seal_no, r.tokens, r.rows_sha256,
    t.entries, t.tokens AS found_tokens, t.rows_sha256 AS found_sha256
  FROM (SELECT * FROM {ranges} WHERE {only} AND seal_no <= {up_to}) r
  CROSS JOIN LATERAL (
    SELECT count(*) AS entries, sum(e.amount) AS tokens,
      sha256(string_agg(sha256(convert_to(
        'row1:' || length(e.user_id) || ':' || e.user_id || e.seq || ';' || e.amount || ';' || e.balance_after || ';'
        || CASE WHEN e.created_at BETWEEN '0001-01-01Z' AND '9999-12-31Z' THEN (extract(epoch FROM e.created_at) * 1000000)::bigint END || ';'
        || coalesce(e.reverses_seq || ';', '-')
        || length(e.kind) || ':' || e.kind || length(e.reason) || ':' || e.reason
        || coalesce(length(e.ticket) || ':' || e.ticket, '-') || coalesce(length(e.campaign) || ':' || e.campaign, '-')
        || length(e.operator) || ':' || e.operator || length(e.claimed_by) || ':' || e.claimed_by
        || length(e.request_id) || ':' || e.request_id || length(e.idempotency_key) || ':' || e.idempotency_key
        || coalesce(length(e.batch_id) || ':' || e.batch_id, '-') || coalesce(length(e.note) || ':' || e.note, '-'),
        'UTF8')), ''::bytea ORDER BY e.seq)) AS rows_sha256
    FROM {entries} e WHERE e.user_id = r.user_id AND e.seq BETWEEN r.first_seq AND r.last_seq) t),
findings AS MATERIALIZED (
  SELECT 'sealed-rows' AS rule, user_id, first_seq AS seq,
    jsonb_build_object('last_seq', last_seq, 'seal_no', seal_no, 'entries', entries) AS detail
  FROM found
  WHERE entries <> last_seq - first_seq + 1 OR found_tokens IS DISTINCT FROM tokens OR found_sha256 IS DISTINCT FROM rows_sha256)
SELECT
  (SELECT coalesce(jsonb_object_agg(rule, n), '{{}}') FROM (SELECT rule, count(*) AS n FROM findings GROUP BY 1) r) AS counts,
  (SELECT coalesce(jsonb_agg(to_jsonb(f)), '[]') FROM (SELECT * FROM findings ORDER BY user_id, seq LIMIT 100) f) AS findings
