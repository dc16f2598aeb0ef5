-- Slices of a batch that are still to be posted.
-- batch: text
SELECT part, slice, staged, staged_tokens FROM tokenctl.import_lanes WHERE batch_id = %(batch)s AND state = 'pending' ORDER BY part, slice
