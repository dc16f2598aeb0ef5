-- Entries of one user below a seq, the newest first, each with the seq of its reversal.
-- It walks one partition along its primary key, so it costs what it gives back, however
-- large the ledger is. Two things keep it so where statistics are old: a limit that the
-- planner cannot see, or it would rather sort all of a user whom it takes for a small
-- one, and a probe per row for the reversal, or it would join whole tables.
-- account: text; below: bigint; upto: bigint, the last seq that there is for this look; until: timestamptz or NULL; kind: text or NULL; rows: bigint
SELECT t.user_id, t.seq, t.amount, t.balance_after, t.created_at, t.kind, t.reason, t.ticket, t.campaign, t.note,
  t.operator, t.claimed_by, t.request_id, t.idempotency_key, t.batch_id, t.reverses_seq, r.seq AS reversed_by
FROM (
  SELECT * FROM tokenctl.token_transactions
  WHERE user_id = %(account)s AND seq < %(below)s
    AND (%(until)s::timestamptz IS NULL OR created_at < %(until)s::timestamptz)
    AND (%(kind)s::text IS NULL OR kind = %(kind)s::text)
  ORDER BY seq DESC LIMIT (SELECT %(rows)s::bigint)) t
LEFT JOIN LATERAL (
  SELECT seq FROM tokenctl.token_transactions WHERE user_id = %(account)s AND reverses_seq = t.seq AND seq <= %(upto)s LIMIT 1) r ON true
ORDER BY t.seq DESC
