-- What was promised and what came of it stays on record, and what was paid stays paid.
CREATE TRIGGER never_deleted BEFORE DELETE ON tokenctl.token_holds
  FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();
CREATE TRIGGER captured_stays BEFORE UPDATE ON tokenctl.token_holds
  FOR EACH ROW WHEN (OLD.state = 'captured') EXECUTE FUNCTION tokenctl.refuse_change();
CREATE TRIGGER never_deleted BEFORE DELETE ON tokenctl.generations
  FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();
CREATE TRIGGER image_stays BEFORE UPDATE ON tokenctl.generations
  FOR EACH ROW WHEN (OLD.image_sha256 IS NOT NULL) EXECUTE FUNCTION tokenctl.refuse_change();

DO $$
DECLARE
  target record;
BEGIN
  FOR target IN
    SELECT c.oid::regclass AS name FROM pg_class c
    WHERE c.relnamespace = 'tokenctl'::regnamespace AND c.relkind IN ('r', 'p')
      AND (c.relname LIKE 'token\_holds%' OR c.relname LIKE 'generations%')
  LOOP
    EXECUTE format('CREATE TRIGGER never_truncated BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.refuse_change()', target.name);
  END LOOP;
  FOR target IN
    SELECT t.tgrelid::regclass AS name, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'tokenctl'::regnamespace AND NOT t.tgisinternal
      AND (c.relname LIKE 'token\_holds%' OR c.relname LIKE 'generations%')
  LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', target.name, target.tgname);
  END LOOP;
END
$$;

-- An image is known whole or not at all.
ALTER TABLE tokenctl.generations
  ADD CONSTRAINT image_whole CHECK (num_nulls(image_sha256, image_bytes, width, height) IN (0, 4));

-- Of databases that tried tokenctl before its first release: these take and answer more now.
DROP FUNCTION IF EXISTS tokenctl.generation_capture_v1(text, text, text, bigint, integer, integer, text, text, jsonb, text, text);
DROP FUNCTION IF EXISTS tokenctl.generation_claim_v1(text, text, integer, integer, integer, text);
DROP FUNCTION IF EXISTS tokenctl.generation_release_v1(text, text, text, boolean, text, text);
DO $$
BEGIN
  IF to_regtype('tokenctl.generation_v1') IS NOT NULL THEN
    ALTER TYPE tokenctl.generation_v1 ADD ATTRIBUTE response_id text, ADD ATTRIBUTE model_version text, ADD ATTRIBUTE usage jsonb;
  END IF;
END
$$;
