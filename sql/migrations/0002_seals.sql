-- Seals: what was committed at a moment, as one hash that can be kept elsewhere.
--
-- Each seal hashes the rows that came since the one before, and the head before, so
-- its own head stands for all rows up to it. Nothing here needs to be believed: whoever
-- kept a head recomputes it from the rows (`tokenctl verify --head`), and these tables
-- only say which rows belong to which seal. Change them to match changed rows, and the
-- kept head comes out no more.

-- One row per user and seal (and per million of a user's entries): which of its rows
-- were sealed, their sum, and the hash of their hashes in the order of seq. User first and
-- hashed like the rest; the last sealed seq of a user is one look at the primary key.
CREATE TABLE tokenctl.sealed_ranges (
  user_id     text COLLATE "C" NOT NULL,
  first_seq   bigint NOT NULL,
  last_seq    bigint NOT NULL,
  seal_no     bigint NOT NULL,
  tokens      bigint NOT NULL,
  rows_sha256 bytea NOT NULL,
  CONSTRAINT sealed_ranges_pkey PRIMARY KEY (user_id, last_seq),
  CONSTRAINT sealed_range_runs CHECK (first_seq BETWEEN 1 AND last_seq),
  CONSTRAINT sealed_rows_sha256 CHECK (octet_length(rows_sha256) = 32)
) PARTITION BY HASH (user_id);
CREATE INDEX sealed_ranges_seal_no ON tokenctl.sealed_ranges (seal_no);

-- The chain: one row per seal. `content` is the hash of its ranges' hashes in the order
-- of users, `head` the hash of everything in this row, `previous` included.
CREATE TABLE tokenctl.seals (
  seal_no    bigint PRIMARY KEY,
  previous   text COLLATE "C" UNIQUE,
  head       text COLLATE "C" NOT NULL UNIQUE,
  content    text COLLATE "C" NOT NULL,
  users      bigint NOT NULL,
  entries    bigint NOT NULL,
  tokens     numeric(38, 0) NOT NULL,
  sealed_at  timestamptz NOT NULL,
  operator   text COLLATE "C" NOT NULL,
  claimed_by text COLLATE "C" NOT NULL,
  request_id text COLLATE "C" NOT NULL,
  CONSTRAINT seal_chained CHECK (seal_no >= 1 AND (seal_no = 1) = (previous IS NULL)),
  CONSTRAINT seal_hashes_form CHECK (head ~ '^[0-9a-f]{64}$' AND previous ~ '^[0-9a-f]{64}$' AND content ~ '^[0-9a-f]{64}$')
);

DO $$
BEGIN
  FOR i IN 0 .. tokenctl.partition_count() - 1 LOOP
    EXECUTE format('CREATE TABLE tokenctl.%I PARTITION OF tokenctl.sealed_ranges FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
      'sealed_ranges_' || i, tokenctl.partition_count(), i);
  END LOOP;
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tokenctl.sealed_ranges
  FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tokenctl.seals
  FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();

DO $$
DECLARE
  target regclass;
BEGIN
  FOR target IN
    SELECT c.oid::regclass FROM pg_class c
    WHERE c.relnamespace = 'tokenctl'::regnamespace AND c.relkind IN ('r', 'p') AND (c.relname LIKE 'sealed\_ranges%' OR c.relname = 'seals')
  LOOP
    EXECUTE format('CREATE TRIGGER never_truncated BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.refuse_change()', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', target);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER never_truncated', target);
  END LOOP;
END
$$;

GRANT SELECT ON tokenctl.sealed_ranges, tokenctl.seals TO tokenctl_reader;
-- Verify reads partition by partition, on several connections: a right to the parent does
-- not reach a partition that is named itself. It shows nothing that the parent does not.
DO $$
DECLARE
  target regclass;
BEGIN
  FOR target IN
    SELECT i.inhrelid::regclass FROM pg_inherits i
    WHERE i.inhparent IN ('tokenctl.token_accounts'::regclass, 'tokenctl.token_transactions'::regclass,
      'tokenctl.token_holds'::regclass, 'tokenctl.sealed_ranges'::regclass)
  LOOP
    EXECUTE format('GRANT SELECT ON %s TO tokenctl_reader', target);
  END LOOP;
END
$$;
