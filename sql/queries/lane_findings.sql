-- Rows that a slice could not post, with what stood in the way.
-- batch: text
SELECT (f ->> 'line')::bigint AS line, f ->> 'problem' AS problem, f ->> 'user_id' AS user_id, f ->> 'seq' AS other
FROM tokenctl.import_lanes, jsonb_array_elements(findings) AS f
WHERE batch_id = %(batch)s AND findings IS NOT NULL ORDER BY 1 LIMIT 100
