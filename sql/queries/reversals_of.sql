-- The reversals of a batch, the oldest first.
-- batch: text
SELECT batch_id, kind, state, file_name, file_sha256, file_size, options, slices, reverses_batch, reason, operator, claimed_by, request_id,
  rows_read, rejected, duplicate, applied, applied_tokens, replayed, replayed_tokens, conflicting, refused, started_at, finished_at
FROM tokenctl.import_batches WHERE reverses_batch = %(batch)s ORDER BY started_at
