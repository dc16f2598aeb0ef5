-- Paid jobs and their holds: an image is paid for by the capture of its hold, and a hold is
-- captured for an image. Both are written in one transaction, so a difference was made by hand.
-- account: text or NULL for all
WITH findings AS MATERIALIZED (
  SELECT CASE WHEN h.state = 'captured' THEN 'paid-without-image' ELSE 'image-unpaid' END AS rule, h.user_id, h.captured_seq AS seq,
    jsonb_build_object('generation', h.hold_id, 'state', h.state, 'amount', h.amount) AS detail
  FROM tokenctl.token_holds h
  LEFT JOIN tokenctl.generations g ON g.user_id = h.user_id AND g.generation_id = h.hold_id
  WHERE (%(account)s::text IS NULL OR h.user_id = %(account)s::text) AND h.purpose LIKE 'image-_k'
    AND (h.state = 'captured') <> (g.image_sha256 IS NOT NULL))
SELECT
  (SELECT coalesce(jsonb_object_agg(rule, n), '{}') FROM (SELECT rule, count(*) AS n FROM findings GROUP BY 1) r) AS counts,
  (SELECT coalesce(jsonb_agg(to_jsonb(f)), '[]') FROM (SELECT * FROM findings ORDER BY user_id, detail ->> 'generation' LIMIT 100) f) AS findings
