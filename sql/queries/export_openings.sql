-- What every user had before a moment, fund by fund. Time never runs against seq, so these
-- entries are the first of each user.
-- account: text or NULL; before: timestamptz
SELECT user_id, kind, sum(amount)::bigint AS tokens
FROM tokenctl.token_transactions
WHERE (%(account)s::text IS NULL OR user_id = %(account)s::text) AND created_at < %(before)s::timestamptz
GROUP BY user_id, kind
ORDER BY user_id, kind
