-- A reversal takes back a batch, or all that one operator did in a time: from `since` on and
-- before `until`, which is the moment of the reversal unless somebody said an earlier one.
ALTER TABLE tokenctl.import_batches
  ADD COLUMN reverses_operator text COLLATE "C",
  ADD COLUMN reverses_since    timestamptz,
  ADD COLUMN reverses_until    timestamptz,
  DROP CONSTRAINT batch_reversal_paired,
  ADD CONSTRAINT batch_reversal_paired CHECK (num_nonnulls(reverses_batch, reverses_operator) = (kind = 'reversal')::integer),
  ADD CONSTRAINT batch_operator_times CHECK (num_nonnulls(reverses_operator, reverses_since, reverses_until) IN (0, 3));
CREATE INDEX import_batches_reverses_operator ON tokenctl.import_batches (reverses_operator) WHERE reverses_operator IS NOT NULL;

-- Of databases that tried tokenctl before its first release: these take other arguments now.
DROP FUNCTION IF EXISTS tokenctl.reversal_open_v1(text, text, text, text, text, integer, text, text);
DROP FUNCTION IF EXISTS tokenctl.reversal_missing_v1(text, integer);
DROP FUNCTION IF EXISTS tokenctl.reversible();
