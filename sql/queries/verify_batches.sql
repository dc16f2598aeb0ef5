-- Imports and reversals whose counts are not the sums of their slices, or do not add up to
-- the rows that were read; and how many were looked at.
WITH summed AS (
  SELECT batch_id, count(*) FILTER (WHERE state <> 'done') AS pending, sum(applied) AS applied, sum(applied_tokens) AS applied_tokens,
    sum(replayed) AS replayed, sum(replayed_tokens) AS replayed_tokens, sum(conflicting) AS conflicting, sum(refused) AS refused
  FROM tokenctl.import_lanes GROUP BY 1),
findings AS MATERIALIZED (
  SELECT b.batch_id, b.state, b.applied, b.applied_tokens, b.rows_read,
    b.applied + b.replayed + b.conflicting + b.refused + b.rejected + b.duplicate AS rows_told, coalesce(l.pending, 0) AS pending,
    coalesce(l.applied, 0) AS lanes_applied, coalesce(l.applied_tokens, 0) AS lanes_applied_tokens
  FROM tokenctl.import_batches b LEFT JOIN summed l USING (batch_id)
  WHERE CASE b.state
    WHEN 'done' THEN l.pending > 0
      OR b.rows_read <> b.applied + b.replayed + b.conflicting + b.refused + b.rejected + b.duplicate
      OR (b.applied, b.applied_tokens, b.replayed, b.replayed_tokens, b.conflicting, b.refused) IS DISTINCT FROM
        (coalesce(l.applied, 0), coalesce(l.applied_tokens, 0), coalesce(l.replayed, 0), coalesce(l.replayed_tokens, 0),
          coalesce(l.conflicting, 0), coalesce(l.refused, 0))
    WHEN 'staging' THEN l.applied > 0
    ELSE false END)
SELECT
  (SELECT jsonb_object_agg('batch-sums', n) FROM (SELECT count(*) AS n FROM findings) f WHERE n > 0) AS counts,
  (SELECT jsonb_agg(jsonb_build_object('rule', 'batch-sums', 'user_id', NULL, 'seq', NULL, 'detail', to_jsonb(f)))
   FROM (SELECT * FROM findings ORDER BY batch_id LIMIT 100) f) AS findings
