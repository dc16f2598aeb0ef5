-- Entries of some users that have not their form, and keys that were used twice: what
-- constraints keep out, unless somebody took them away.
-- entries: one partition, or the table; only: which users, as a condition on user_id
WITH formed AS (
  SELECT user_id, seq, concat_ws(', ',
    CASE WHEN (user_id ~ '^[A-Za-z0-9._:@][A-Za-z0-9._:@-]*$' AND length(user_id) <= 128) IS NOT TRUE THEN 'user_id' END,
    CASE WHEN (kind IN ('bonus', 'purchase', 'generation', 'adjustment')) IS NOT TRUE THEN 'kind' END,
    CASE WHEN (reason ~ '^[a-z][a-z0-9_-]*$' AND octet_length(reason) <= 32) IS NOT TRUE THEN 'reason' END,
    CASE WHEN (octet_length(idempotency_key) BETWEEN 1 AND 128) IS NOT TRUE THEN 'idempotency_key' END,
    CASE WHEN (octet_length(request_id) BETWEEN 1 AND 128) IS NOT TRUE THEN 'request_id' END,
    CASE WHEN (operator <> '') IS NOT TRUE THEN 'operator' END,
    CASE WHEN claimed_by IS NULL THEN 'claimed_by' END,
    CASE WHEN (created_at BETWEEN '0001-01-01Z' AND '9999-12-31Z') IS NOT TRUE THEN 'created_at' END,
    CASE WHEN NOT octet_length(ticket) BETWEEN 1 AND 64 THEN 'ticket' END,
    CASE WHEN NOT length(note) BETWEEN 1 AND 500 THEN 'note' END,
    CASE WHEN batch_id !~ '^[0-9a-f]{{12}}$' THEN 'batch_id' END) AS what
  FROM {entries} WHERE {only}),
findings AS MATERIALIZED (
  SELECT 'form' AS rule, user_id, seq, jsonb_build_object('what', what) AS detail FROM formed WHERE what <> ''
  UNION ALL
  SELECT 'key-twice', k.user_id, k.seqs[2], jsonb_build_object('first', k.seqs[1], 'times', k.times)
  FROM (
    SELECT user_id, count(*) AS times, (array_agg(seq ORDER BY seq))[1:2] AS seqs
    FROM {entries} WHERE {only} GROUP BY user_id, idempotency_key HAVING count(*) > 1) k)
SELECT
  (SELECT coalesce(jsonb_object_agg(rule, n), '{{}}') FROM (SELECT rule, count(*) AS n FROM findings GROUP BY 1) r) AS counts,
  (SELECT coalesce(jsonb_agg(to_jsonb(f)), '[]') FROM (SELECT * FROM findings ORDER BY user_id, seq, rule LIMIT 100) f) AS findings
