-- What a balance is made of, in one statement, so that all of it is of one moment:
--   account  what the projection says: balance, last seq, when it changed; until: now
--   entries  what the rows say: how many, their sum, the last one
--   source   entries of one kind and name (a generation's is the purpose of its hold, else
--            the reason), with all that reversed them: a reversal counts where the entry
--            at the bottom of its chain does
--   hold     an open hold before its deadline; entries and reversed are those of all such
-- It reads the rows of one user. At an earlier moment the account is what its last entry of then
-- says, and a hold counts as in balances_at.sql.
-- account: text; holds: bigint, how many to name; at: timestamptz, or NULL for now; upto: bigint,
-- the last seq at that moment
WITH RECURSIVE undoing AS (
  SELECT r.seq, r.amount, r.created_at, r.reverses_seq AS root
  FROM tokenctl.token_transactions r
  JOIN tokenctl.token_transactions o ON o.user_id = %(account)s AND o.seq = r.reverses_seq AND o.reverses_seq IS NULL
  WHERE r.user_id = %(account)s AND r.reverses_seq IS NOT NULL AND r.seq <= %(upto)s
  UNION ALL
  SELECT r.seq, r.amount, r.created_at, u.root
  FROM undoing u
  JOIN tokenctl.token_transactions r ON r.user_id = %(account)s AND r.reverses_seq = u.seq AND r.seq <= %(upto)s
), undone AS (
  SELECT root, count(*) AS reversals, sum(amount)::bigint AS reversed, max(seq) AS last_seq, max(created_at) AS at
  FROM undoing GROUP BY root
), purposes AS (
  SELECT captured_seq AS seq, purpose FROM tokenctl.token_holds WHERE user_id = %(account)s AND state = 'captured'
)
SELECT 'account' AS part, NULL AS kind, NULL AS name, a.entries, a.tokens, 0::bigint AS reversals, 0::bigint AS reversed,
  a.entries AS last_seq, a.at, coalesce(%(at)s::timestamptz, clock_timestamp()) AS until
FROM (
  SELECT last_seq AS entries, balance AS tokens, CASE WHEN last_seq > 0 THEN updated_at END AS at
  FROM tokenctl.token_accounts WHERE user_id = %(account)s AND %(at)s::timestamptz IS NULL
  UNION ALL
  SELECT coalesce(t.seq, 0), coalesce(t.balance_after, 0), t.created_at
  FROM tokenctl.token_accounts c
  LEFT JOIN tokenctl.token_transactions t ON t.user_id = %(account)s AND t.seq = %(upto)s
  WHERE c.user_id = %(account)s AND %(at)s::timestamptz IS NOT NULL) a
UNION ALL
SELECT 'entries', NULL, NULL, count(*), coalesce(sum(amount), 0)::bigint, 0, 0, max(seq), max(created_at), NULL
FROM tokenctl.token_transactions WHERE user_id = %(account)s AND seq <= %(upto)s
UNION ALL
SELECT 'source', t.kind, CASE t.kind WHEN 'generation' THEN coalesce(p.purpose, t.reason) ELSE t.reason END AS name,
  count(*), sum(t.amount)::bigint, coalesce(sum(u.reversals), 0)::bigint, coalesce(sum(u.reversed), 0)::bigint,
  greatest(max(t.seq), max(u.last_seq)), greatest(max(t.created_at), max(u.at)), NULL
FROM tokenctl.token_transactions t
LEFT JOIN undone u ON u.root = t.seq
LEFT JOIN purposes p ON p.seq = t.seq
WHERE t.user_id = %(account)s AND t.reverses_seq IS NULL AND t.seq <= %(upto)s
GROUP BY 2, 3
UNION ALL
(SELECT 'hold', hold_id, purpose, count(*) OVER (), amount, 0, (sum(amount) OVER ())::bigint, NULL, created_at, expires_at
 FROM tokenctl.token_holds
 WHERE user_id = %(account)s AND CASE WHEN %(at)s::timestamptz IS NULL THEN state = 'open' AND expires_at > clock_timestamp()
   ELSE created_at <= %(at)s::timestamptz AND expires_at > %(at)s::timestamptz AND (settled_at IS NULL OR settled_at > %(at)s::timestamptz) END
 ORDER BY expires_at, hold_id LIMIT %(holds)s)
