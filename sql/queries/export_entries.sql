-- Entries for an export: users in the order of their ids, each user's oldest entry first. The
-- order is that of the primary key in every partition, so nothing is sorted.
-- account: text or NULL; since, until: timestamptz or NULL
SELECT user_id, seq, amount, balance_after, created_at, kind, reason, ticket, campaign, note,
  operator, claimed_by, request_id, idempotency_key, batch_id, reverses_seq, NULL::bigint AS reversed_by
FROM tokenctl.token_transactions
WHERE (%(account)s::text IS NULL OR user_id = %(account)s::text)
  AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s::timestamptz)
  AND (%(until)s::timestamptz IS NULL OR created_at < %(until)s::timestamptz)
ORDER BY user_id, seq
