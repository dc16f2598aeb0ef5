-- Slices of a batch that are still to be posted; neighbours are of different
-- partitions, because one partition is posted to by one transaction at a time.
-- batch: text
SELECT part, slice, staged FROM tokenctl.import_lanes WHERE batch_id = %(batch)s AND state = 'pending' ORDER BY slice, part
