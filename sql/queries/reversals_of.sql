-- The reversals of a batch, or of what an operator did in a time, the oldest first.
-- batch: text or NULL; operator: text or NULL; since: timestamptz or NULL; until: timestamptz
-- or NULL, as somebody gave it
SELECT batch_id, kind, state, file_name, file_sha256, file_size, options, slices, reverses_batch, reason, operator, claimed_by, request_id,
  rows_read, rejected, duplicate, applied, applied_tokens, replayed, replayed_tokens, conflicting, refused, started_at, finished_at,
  reverses_operator, reverses_since, reverses_until, opened_as
FROM tokenctl.import_batches WHERE reverses_batch = %(batch)s::text
  OR reverses_operator = %(operator)s::text AND reverses_since = %(since)s::timestamptz
    AND (options ->> 'until')::timestamptz IS NOT DISTINCT FROM %(until)s::timestamptz
ORDER BY started_at
