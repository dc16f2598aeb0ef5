-- What the session's role may do past the functions, and whose member it is.
SELECT
  session_user::text AS login,
  (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = session_user) AS superuser,
  coalesce(pg_has_role(session_user, to_regrole('tokenctl_owner'), 'MEMBER'), false) AS owner,
  coalesce((SELECT r.rolcanlogin FROM pg_roles r WHERE r.rolname = 'tokenctl_owner'), false) AS owner_logs_in,
  coalesce(has_schema_privilege(session_user, to_regnamespace('tokenctl'), 'CREATE'), false) AS creates,
  ARRAY(
    SELECT r.rolname::text FROM pg_roles r
    WHERE r.rolname IN ('tokenctl_reader', 'tokenctl_support', 'tokenctl_batch', 'tokenctl_admin')
      AND pg_has_role(session_user, r.oid, 'MEMBER') ORDER BY 1) AS roles,
  ARRAY(
    SELECT c.relname::text FROM pg_class c
    WHERE c.relnamespace = to_regnamespace('tokenctl') AND c.relkind IN ('r', 'p', 'v')
      AND (has_table_privilege(session_user, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
        OR has_any_column_privilege(session_user, c.oid, 'INSERT, UPDATE')) ORDER BY 1) AS writable
