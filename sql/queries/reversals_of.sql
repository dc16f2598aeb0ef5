-- The reversals of a batch, the oldest first.
-- batch: text
SELECT batch_id, state, applied, refused, operator, claimed_by, finished_at
FROM tokenctl.import_batches WHERE reverses_batch = %(batch)s ORDER BY started_at
