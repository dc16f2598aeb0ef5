-- Entries are found by user, and few columns of theirs are ever asked for otherwise: six
-- thousand sampled rows tell the planner enough. With the default of thirty thousand ANALYZE
-- reads about every row of a partition, and after each import of a million rows autovacuum
-- analyzed them all for as long as half the import takes, mostly beside the next one.
DO $$
BEGIN
  EXECUTE (
    SELECT 'ALTER TABLE tokenctl.token_transactions ' || string_agg(format('ALTER COLUMN %I SET STATISTICS 20', attname), ', ' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = 'tokenctl.token_transactions'::regclass AND attnum > 0 AND NOT attisdropped);
END
$$;
