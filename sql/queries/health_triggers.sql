-- Append-only triggers that are missing, not ENABLE ALWAYS, or not what the migration
-- made: on the parents and on every partition. A type is the sum of row 1, before 2,
-- delete 8, update 16, truncate 32. Only those that let a row be settled have a condition.
SELECT coalesce(t.name, w.root) AS table_name, w.trigger,
  CASE
    WHEN t.oid IS NULL THEN 'has no table'
    WHEN g.oid IS NULL THEN 'is missing'
    WHEN g.tgenabled <> 'A' THEN 'is not enabled always'
    ELSE 'was changed'
  END AS what
FROM (VALUES
  ('token_transactions', 'append_only', 27), ('token_transactions', 'never_truncated', 34),
  ('token_holds', 'never_deleted', 11), ('token_holds', 'never_truncated', 34), ('token_holds', 'captured_stays', 19),
  ('generations', 'never_deleted', 11), ('generations', 'never_truncated', 34), ('generations', 'image_stays', 19),
  ('token_accounts', 'never_deleted', 11), ('token_accounts', 'never_truncated', 34),
  ('sealed_ranges', 'append_only', 27), ('sealed_ranges', 'never_truncated', 34),
  ('seals', 'append_only', 27), ('seals', 'never_truncated', 34),
  ('audit_log', 'append_only', 27), ('audit_log', 'never_truncated', 34)) AS w(root, trigger, type)
LEFT JOIN (
  SELECT c.oid, c.relname::text AS name, coalesce(p.relname, c.relname) AS root
  FROM pg_class c
  LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
  LEFT JOIN pg_class p ON p.oid = i.inhparent
  WHERE c.relnamespace = to_regnamespace('tokenctl') AND c.relkind IN ('r', 'p')) t USING (root)
LEFT JOIN pg_trigger g ON g.tgrelid = t.oid AND g.tgname = w.trigger
WHERE g.oid IS NULL OR g.tgenabled <> 'A' OR g.tgtype <> w.type OR (g.tgqual IS NOT NULL) <> (w.trigger LIKE '%stays')
  OR g.tgfoid IS DISTINCT FROM to_regprocedure('tokenctl.refuse_change()')
ORDER BY 1, 2
