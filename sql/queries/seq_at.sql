-- The seq of a user's last entry at a moment, 0 before the first: found by halving, because time
-- never runs against seq, so it looks at some twenty rows of a million.
-- account: text; at: timestamptz
WITH RECURSIVE halves AS (
  (SELECT 0::bigint AS low, seq AS high FROM tokenctl.token_transactions WHERE user_id = %(account)s ORDER BY seq DESC LIMIT 1)
  UNION ALL
  SELECT CASE WHEN t.created_at <= %(at)s THEN h.middle ELSE h.low END, CASE WHEN t.created_at <= %(at)s THEN h.high ELSE h.middle - 1 END
  FROM (SELECT low, high, (low + high + 1) / 2 AS middle FROM halves WHERE low < high) h
  LEFT JOIN LATERAL (
    SELECT created_at FROM tokenctl.token_transactions WHERE user_id = %(account)s AND seq = h.middle LIMIT 1) t ON true
)
SELECT coalesce(max(low), 0) FROM halves
