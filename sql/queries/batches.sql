-- Imports and reversals, the newest first: `standing` says in a word what became of each,
-- `reversed_by` the newest reversal that undoes it today (one may have been reversed in its turn),
-- `taken_back_by` the newest reversal of an operator's doings that took back what he did while this
-- batch was at work, if he was at it: all of it or a part, which the entries' histories tell,
-- `ends` what is to be reversed to undo it while it stands, in that order: what gave back what reversals of it took,
-- and itself as long as no reversal took all that was left,
-- and `posted` of `staged` rows how far an unfinished one has come. Whether a client works
-- at one is told by its lock, which frees itself when the client dies.
-- batch: text or NULL; standing: text or NULL; rows: bigint
SELECT b.batch_id, b.kind, b.state, b.file_name, b.file_sha256, b.file_size, b.options, b.slices, b.reverses_batch,
  b.reason, b.operator, b.claimed_by, b.request_id, b.rows_read, b.rejected, b.duplicate, b.applied, b.applied_tokens,
  b.replayed, b.replayed_tokens, b.conflicting, b.refused, b.started_at, b.finished_at,
  b.reverses_operator, b.reverses_since, b.reverses_until, b.opened_as,
  s.standing, u.reversed_by, o.taken_back_by, e.ends, p.staged, p.posted
FROM tokenctl.import_batches b
CROSS JOIN LATERAL (
  WITH RECURSIVE tree AS (
    SELECT b.batch_id AS id, 0 AS depth, b.started_at AS since
    UNION ALL
    SELECT r.batch_id, t.depth + 1, r.started_at FROM tree t JOIN tokenctl.import_batches r ON r.reverses_batch = t.id
    WHERE r.state = 'applying' OR r.applied > 0
  )
  SELECT coalesce(array_agg(id ORDER BY depth DESC, since DESC), '{}') AS ends FROM tree t
  WHERE depth %% 2 = 0 AND NOT EXISTS (
    SELECT FROM tokenctl.import_batches r WHERE r.reverses_batch = t.id AND r.applied > 0 AND r.refused + r.conflicting = 0)) e
LEFT JOIN LATERAL (
  SELECT r.batch_id AS reversed_by FROM tokenctl.import_batches r
  WHERE r.reverses_batch = b.batch_id AND (r.state = 'applying' OR r.applied > 0) AND NOT tokenctl.batch_is_reversed(r.batch_id)
  ORDER BY r.started_at DESC LIMIT 1) u ON true
LEFT JOIN LATERAL (
  SELECT r.batch_id AS taken_back_by FROM tokenctl.import_batches r
  WHERE r.reverses_operator IS NOT NULL AND r.batch_id <> b.batch_id AND (r.state = 'applying' OR r.applied > 0)
    AND (r.reverses_operator IN (b.operator, b.claimed_by) OR starts_with(b.claimed_by, r.reverses_operator || '@'))
    AND r.reverses_since < coalesce(b.finished_at, 'infinity') AND r.reverses_until > b.started_at
    AND NOT tokenctl.batch_is_reversed(r.batch_id)
  ORDER BY r.started_at DESC LIMIT 1) o ON b.applied > 0
CROSS JOIN LATERAL (
  SELECT hashtextextended('tokenctl import ' || b.batch_id, 0) AS lock) k
CROSS JOIN LATERAL (
  SELECT CASE
    WHEN b.state = 'done' THEN CASE WHEN u.reversed_by IS NULL THEN 'done' ELSE 'reversed' END
    WHEN EXISTS (
      SELECT FROM pg_locks l
      WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
        AND l.classid::bigint = ((k.lock >> 32) & 4294967295) AND l.objid::bigint = (k.lock & 4294967295)) THEN
      CASE b.state WHEN 'staging' THEN 'checking' ELSE 'running' END
    ELSE CASE b.state WHEN 'staging' THEN 'abandoned' ELSE 'unfinished' END
  END AS standing) s
CROSS JOIN LATERAL (
  SELECT coalesce(sum(l.staged), 0)::bigint AS staged, coalesce(sum(l.applied), 0)::bigint AS posted
  FROM tokenctl.import_lanes l WHERE l.batch_id = b.batch_id AND b.state = 'applying') p
WHERE (%(batch)s::text IS NULL OR b.batch_id = %(batch)s::text)
  AND (%(standing)s::text IS NULL OR s.standing = %(standing)s::text)
ORDER BY b.started_at DESC, b.batch_id LIMIT %(rows)s
