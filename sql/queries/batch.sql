-- One batch, whole.
-- batch: text
SELECT batch_id, kind, state, file_name, file_sha256, file_size, options, slices, reverses_batch, reason, operator, claimed_by, request_id,
  rows_read, rejected, duplicate, applied, applied_tokens, replayed, replayed_tokens, conflicting, refused, started_at, finished_at,
  reverses_operator, reverses_since, reverses_until, opened_as
FROM tokenctl.import_batches WHERE batch_id = %(batch)s
