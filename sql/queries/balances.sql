-- Balances of many users in the order asked for; unknown users have no row.
-- users: text[]
SELECT u.user_id, a.balance, h.held, greatest(a.balance - h.held, 0) AS available, t.created_at, t.amount, t.reason
FROM unnest(%(users)s::text[]) WITH ORDINALITY AS u(user_id, n)
CROSS JOIN LATERAL (SELECT balance, last_seq FROM tokenctl.token_accounts WHERE user_id = u.user_id LIMIT 1) a
CROSS JOIN LATERAL (
  SELECT coalesce(sum(amount), 0)::bigint AS held FROM tokenctl.token_holds
  WHERE user_id = u.user_id AND state = 'open' AND expires_at > clock_timestamp()) h
LEFT JOIN LATERAL (
  SELECT created_at, amount, reason FROM tokenctl.token_transactions
  WHERE user_id = u.user_id AND seq = a.last_seq LIMIT 1) t ON true
ORDER BY u.n
