-- An import changes every account that it names once, and those that an import made stand side by side: with
-- three tenths of a page free half of the new versions went to another page, and into the index with it. Half
-- of each page, which they took in the end anyway, holds them all. For pages that are written from now on.
DO $$
DECLARE
  child regclass;
BEGIN
  FOR child IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'tokenctl.token_accounts'::regclass LOOP
    EXECUTE format('ALTER TABLE %s SET (fillfactor = 50)', child);
  END LOOP;
END
$$;

-- It looks at the reasons as well now (060_import_plan.sql).
DROP FUNCTION IF EXISTS tokenctl.import_sum(text, integer);
