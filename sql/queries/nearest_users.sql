-- Known users whose id is one edit away from a wrong one, or begins like it.
-- edits: text[], all ids at edit distance one; prefix: text; upper: text, the first
-- text after all that begin with prefix
SELECT user_id FROM (
  SELECT a.user_id, 0 AS how FROM unnest(%(edits)s::text[]) AS e(user_id)
  CROSS JOIN LATERAL (SELECT user_id FROM tokenctl.token_accounts WHERE user_id = e.user_id LIMIT 1) a
  UNION ALL
  (SELECT user_id, 1 FROM tokenctl.token_accounts WHERE user_id >= %(prefix)s AND user_id < %(upper)s ORDER BY user_id LIMIT 3)
) near GROUP BY user_id ORDER BY min(how), user_id LIMIT 3
