-- Balances of many users at a moment, in the order asked for, from the rows alone; unknown users
-- have no row. The last entry is found as in seq_at.sql. A hold counts from when it was made until it was
-- settled or its deadline passed; one that was settled and made again, from when it was made first.
-- users: text[]; at: timestamptz
SELECT u.user_id, coalesce(t.balance_after, 0) AS balance, h.held, greatest(coalesce(t.balance_after, 0) - h.held, 0) AS available,
  t.created_at, t.amount, t.reason
FROM unnest(%(users)s::text[]) WITH ORDINALITY AS u(user_id, n)
CROSS JOIN LATERAL (SELECT FROM tokenctl.token_accounts WHERE user_id = u.user_id LIMIT 1) a
CROSS JOIN LATERAL (
  WITH RECURSIVE halves AS (
    (SELECT 0::bigint AS low, seq AS high FROM tokenctl.token_transactions WHERE user_id = u.user_id ORDER BY seq DESC LIMIT 1)
    UNION ALL
    SELECT CASE WHEN m.created_at <= %(at)s THEN h.middle ELSE h.low END, CASE WHEN m.created_at <= %(at)s THEN h.high ELSE h.middle - 1 END
    FROM (SELECT low, high, (low + high + 1) / 2 AS middle FROM halves WHERE low < high) h
    LEFT JOIN LATERAL (
      SELECT created_at FROM tokenctl.token_transactions WHERE user_id = u.user_id AND seq = h.middle LIMIT 1) m ON true
  )
  SELECT max(low) AS seq FROM halves) s
LEFT JOIN LATERAL (
  SELECT balance_after, created_at, amount, reason FROM tokenctl.token_transactions WHERE user_id = u.user_id AND seq = s.seq LIMIT 1) t ON true
CROSS JOIN LATERAL (
  SELECT coalesce(sum(amount), 0)::bigint AS held FROM tokenctl.token_holds
  WHERE user_id = u.user_id AND created_at <= %(at)s AND expires_at > %(at)s AND (settled_at IS NULL OR settled_at > %(at)s)) h
ORDER BY u.n
