-- How old the newest finished import is, and which imports and reversals began to post
-- and are not done: `orphaned` are those that no client works at, told by their lock.
SELECT
  (SELECT extract(epoch FROM clock_timestamp() - max(finished_at))::float8
   FROM tokenctl.import_batches WHERE kind = 'import' AND state = 'done') AS age_s,
  count(*) AS unfinished,
  extract(epoch FROM clock_timestamp() - min(b.started_at))::float8 AS oldest_s,
  count(*) FILTER (WHERE NOT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.classid::bigint = ((b.lock >> 32) & 4294967295) AND l.objid::bigint = (b.lock & 4294967295))) AS orphaned
FROM (
  SELECT started_at, hashtextextended('tokenctl import ' || batch_id, 0) AS lock
  FROM tokenctl.import_batches WHERE state = 'applying') b
