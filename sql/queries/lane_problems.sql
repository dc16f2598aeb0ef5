-- How many rows the slices of a batch could not post, by what stood in the way.
-- batch: text
SELECT f ->> 'problem' AS problem, count(*) AS rows
FROM tokenctl.import_lanes, jsonb_array_elements(findings) AS f
WHERE batch_id = %(batch)s AND findings IS NOT NULL GROUP BY 1
