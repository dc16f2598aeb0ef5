-- Roles and schemas, before the first migration. Idempotent: `tokenctl db migrate`
-- runs it whenever one of them is missing, as the role that is logged in.
--
-- tokenctl_owner never logs in: it owns every table and function, so that nobody
-- who works with the ledger can change a row, a trigger or a function of it.
-- Roles belong to the whole server and other databases may have made them
-- already, at this very moment too: hence the two errors that are ignored.
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['tokenctl_owner', 'tokenctl_reader', 'tokenctl_support', 'tokenctl_batch', 'tokenctl_admin'] LOOP
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
      BEGIN
        EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
      END;
    END IF;
  END LOOP;
END
$$;

-- Only what is missing: for another ledger on the same server the roles stand, and who
-- migrates may not be who made them.
DO $$
DECLARE
  pair record;
BEGIN
  FOR pair IN SELECT * FROM (VALUES
    ('tokenctl_reader', 'tokenctl_support'), ('tokenctl_reader', 'tokenctl_batch'),
    ('tokenctl_support', 'tokenctl_admin'), ('tokenctl_batch', 'tokenctl_admin')) AS v(granted, member)
  LOOP
    IF NOT pg_catalog.pg_has_role(pair.member, pair.granted, 'MEMBER') THEN
      EXECUTE pg_catalog.format('GRANT %I TO %I', pair.granted, pair.member);
    END IF;
  END LOOP;
  -- Whoever migrates must be able to act as the owner; a superuser already can.
  IF NOT pg_catalog.pg_has_role(current_user, 'tokenctl_owner', 'MEMBER') THEN
    EXECUTE pg_catalog.format('GRANT tokenctl_owner TO %I', current_user);
  END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS tokenctl AUTHORIZATION tokenctl_owner;
-- Tables that live as long as one import; kept apart so that the ledger's own
-- schema holds nothing that comes and goes.
CREATE SCHEMA IF NOT EXISTS tokenctl_staging AUTHORIZATION tokenctl_owner;
