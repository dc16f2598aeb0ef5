-- An entry, then its reversal, then the reversal of that, and so on.
-- account: text; seq: bigint
WITH RECURSIVE chain AS (
  SELECT seq, 1 AS place FROM tokenctl.token_transactions WHERE user_id = %(account)s AND seq = %(seq)s
  UNION ALL
  SELECT r.seq, c.place + 1 FROM chain c
  CROSS JOIN LATERAL (
    SELECT seq FROM tokenctl.token_transactions WHERE user_id = %(account)s AND reverses_seq = c.seq LIMIT 1) r
)
SELECT t.user_id, t.seq, t.amount, t.balance_after, t.created_at, t.kind, t.reason, t.ticket, t.campaign, t.note,
  t.operator, t.claimed_by, t.request_id, t.idempotency_key, t.batch_id, t.reverses_seq,
  lead(t.seq) OVER (ORDER BY c.place) AS reversed_by
FROM chain c
CROSS JOIN LATERAL (
  SELECT * FROM tokenctl.token_transactions WHERE user_id = %(account)s AND seq = c.seq LIMIT 1) t
ORDER BY c.place
