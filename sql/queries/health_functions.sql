-- Functions that somebody could misuse: those that run as their owner without a pinned
-- search_path, and those that everybody may call.
SELECT p.proname::text AS name,
  p.prosecdef AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false) AS unpinned,
  has_function_privilege('public', p.oid, 'EXECUTE') AS open_to_all
FROM pg_proc p
WHERE p.pronamespace = to_regnamespace('tokenctl')
  AND (p.prosecdef AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
    OR has_function_privilege('public', p.oid, 'EXECUTE'))
ORDER BY 1
