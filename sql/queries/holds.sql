-- Holds of one user, or of all, in the given states, or one of them: the oldest deadline first.
SELECT h.user_id, h.hold_id, h.amount, h.state, h.expires_at, h.expires_at <= clock_timestamp() AS is_past, h.purpose,
  h.idempotency_key, h.captured_seq, h.operator, h.claimed_by, h.created_at, h.settled_at, g.attempts, g.lease_until, g.released_why,
  g.released_by, g.released_claimed_by
FROM tokenctl.token_holds h LEFT JOIN tokenctl.generations g ON g.user_id = h.user_id AND g.generation_id = h.hold_id
WHERE (%(user_id)s::text IS NULL OR h.user_id = %(user_id)s) AND (%(hold_id)s::text IS NULL OR h.hold_id = %(hold_id)s)
  AND h.state = ANY (%(states)s)
ORDER BY h.expires_at, h.user_id, h.hold_id LIMIT %(limit)s
