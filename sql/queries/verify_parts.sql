-- The partitions of the ledger's tables: each by its modulus and remainder. Only real
-- tables: a view in the place of one would say what its maker likes.
SELECT p.relname::text AS root, c.relname::text AS name,
  (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'modulus (\d+), remainder (\d+)'))[1]::integer AS modulus,
  (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'modulus (\d+), remainder (\d+)'))[2]::integer AS remainder
FROM pg_class p JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid
WHERE p.relnamespace = to_regnamespace('tokenctl') AND p.relkind = 'p' AND c.relkind = 'r'
  AND c.relnamespace = to_regnamespace('tokenctl')
  AND p.relname IN ('token_accounts', 'token_transactions', 'token_holds', 'sealed_ranges')
ORDER BY 1, 4
