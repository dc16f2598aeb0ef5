-- Which rows a slice was posted with: the XOR of a hash of each. What a run leaves out and the one
-- that finishes it does not, or the other way round, shows in it, and the slice is judged again then.
ALTER TABLE tokenctl.import_lanes ADD COLUMN staged_lines bigint;

-- No row of a file is lost without a word. Not for what was finished before this rule.
ALTER TABLE tokenctl.import_batches ADD CONSTRAINT batch_rows_add_up CHECK (
  kind = 'reversal' OR state <> 'done' OR rows_read = applied + replayed + conflicting + refused + rejected + duplicate) NOT VALID;

-- The plan takes the lines to take out now, and does not look for them anew; the begin what else was asked for.
DROP FUNCTION IF EXISTS tokenctl.import_plan_v1(text, integer, boolean, boolean);
DROP FUNCTION IF EXISTS tokenctl.import_begin_v1(text);
