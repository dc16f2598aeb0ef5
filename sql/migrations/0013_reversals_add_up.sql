-- What a reversal read adds up as an import's rows do. Until now the run that finished one counted anew what
-- there was to reverse, which says nothing of rows that were lost.
UPDATE tokenctl.import_batches SET rows_read = applied + replayed + conflicting + refused + rejected + duplicate
WHERE kind = 'reversal' AND state = 'done';
ALTER TABLE tokenctl.import_batches
  DROP CONSTRAINT batch_rows_add_up,
  ADD CONSTRAINT batch_rows_add_up CHECK (
    state <> 'done' OR rows_read = applied + replayed + conflicting + refused + rejected + duplicate) NOT VALID;
