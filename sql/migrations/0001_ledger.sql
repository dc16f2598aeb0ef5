-- The ledger: accounts, transactions, holds, imports, audit log.
--
-- Every table that grows has user_id first in its primary key and in each unique
-- constraint and is hash-partitioned by it, so that a user lives in one place: an
-- import then works partition by partition on all cores, and the same shape can be
-- spread over machines. The number of partitions is fixed for the life of the
-- database; the migrator passes it as tokenctl.partitions.
-- Text keys are COLLATE "C": bytewise, the same on every server and upgrade.

CREATE FUNCTION tokenctl.partition_count() RETURNS integer
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT count(*) FROM pg_catalog.pg_inherits WHERE inhparent = 'tokenctl.token_accounts'::pg_catalog.regclass);
END
$$;

-- What a user has: one row, one primary-key read. A projection of the
-- transactions; `tokenctl verify` recomputes it from them.
CREATE TABLE tokenctl.token_accounts (
  user_id    text COLLATE "C" NOT NULL,
  balance    bigint NOT NULL DEFAULT 0,
  last_seq   bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT token_accounts_pkey PRIMARY KEY (user_id),
  CONSTRAINT user_id_form CHECK (user_id ~ '^[A-Za-z0-9._:@][A-Za-z0-9._:@-]*$' AND length(user_id) <= 128),
  -- 2^53 - 1: the largest whole number that every JSON reader keeps exact.
  CONSTRAINT balance_range CHECK (balance BETWEEN 0 AND 9007199254740991),
  CONSTRAINT last_seq_range CHECK (last_seq >= 0)
) PARTITION BY HASH (user_id);

-- What happened: append only. seq runs 1, 2, 3 … per user without a gap and
-- balance_after is the running sum, so a missing, edited or reordered row shows in
-- plain SQL. Each row is one side of a pair: the fund named by its kind has the
-- other (view token_funds), so all users and funds together are always zero.
CREATE TABLE tokenctl.token_transactions (
  user_id         text COLLATE "C" NOT NULL,
  seq             bigint NOT NULL,
  amount          bigint NOT NULL,
  balance_after   bigint NOT NULL,
  created_at      timestamptz NOT NULL,
  reverses_seq    bigint,
  kind            text COLLATE "C" NOT NULL,
  reason          text COLLATE "C" NOT NULL,
  ticket          text COLLATE "C",
  campaign        text COLLATE "C",
  operator        text COLLATE "C" NOT NULL,
  claimed_by      text COLLATE "C" NOT NULL,
  request_id      text COLLATE "C" NOT NULL,
  idempotency_key text COLLATE "C" NOT NULL,
  batch_id        text COLLATE "C",
  note            text,
  CONSTRAINT token_transactions_pkey PRIMARY KEY (user_id, seq),
  CONSTRAINT idempotency_key_once UNIQUE (user_id, idempotency_key),
  CONSTRAINT seq_range CHECK (seq >= 1),
  CONSTRAINT amount_range CHECK (amount <> 0 AND amount BETWEEN -9007199254740991 AND 9007199254740991),
  CONSTRAINT balance_after_range CHECK (balance_after BETWEEN 0 AND 9007199254740991),
  CONSTRAINT kind_known CHECK (kind IN ('bonus', 'purchase', 'generation', 'adjustment')),
  -- Lengths only: patterns cost a third of an insert here. The posting functions hold
  -- reasons to their form, once per reason of an import; a key may be any text.
  CONSTRAINT reason_length CHECK (octet_length(reason) BETWEEN 1 AND 32),
  CONSTRAINT idempotency_key_length CHECK (octet_length(idempotency_key) BETWEEN 1 AND 128),
  CONSTRAINT request_id_form CHECK (octet_length(request_id) BETWEEN 1 AND 128),
  CONSTRAINT operator_named CHECK (operator <> ''),
  CONSTRAINT ticket_length CHECK (octet_length(ticket) BETWEEN 1 AND 64),
  CONSTRAINT note_length CHECK (length(note) BETWEEN 1 AND 500),
  CONSTRAINT reverses_earlier CHECK (reverses_seq >= 1 AND reverses_seq < seq)
) PARTITION BY HASH (user_id);
-- At most one reversal of a transaction. Partial: as a full constraint it cost an
-- import a fifth of its rate for a column that is nearly always null.
CREATE UNIQUE INDEX reversed_once ON tokenctl.token_transactions (user_id, reverses_seq) WHERE reverses_seq IS NOT NULL;

-- Tokens promised to a running job: available = balance - open holds whose
-- deadline is ahead. The database's clock judges the deadline in every read, so a
-- hold ends on time with every worker dead.
CREATE TABLE tokenctl.token_holds (
  user_id         text COLLATE "C" NOT NULL,
  hold_id         text COLLATE "C" NOT NULL,
  amount          bigint NOT NULL,
  state           text COLLATE "C" NOT NULL DEFAULT 'open',
  expires_at      timestamptz NOT NULL,
  purpose         text COLLATE "C" NOT NULL,
  idempotency_key text COLLATE "C" NOT NULL,
  captured_seq    bigint,
  operator        text COLLATE "C" NOT NULL,
  claimed_by      text COLLATE "C" NOT NULL,
  request_id      text COLLATE "C" NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  settled_at      timestamptz,
  CONSTRAINT token_holds_pkey PRIMARY KEY (user_id, hold_id),
  CONSTRAINT hold_key_once UNIQUE (user_id, idempotency_key),
  CONSTRAINT hold_amount_range CHECK (amount BETWEEN 1 AND 9007199254740991),
  CONSTRAINT hold_state_known CHECK (state IN ('open', 'captured', 'released')),
  CONSTRAINT hold_captured_paired CHECK ((state = 'captured') = (captured_seq IS NOT NULL)),
  CONSTRAINT hold_settled_paired CHECK ((state = 'open') = (settled_at IS NULL))
) PARTITION BY HASH (user_id);
CREATE INDEX holds_open ON tokenctl.token_holds (user_id) INCLUDE (amount, expires_at) WHERE state = 'open';

-- One row per import, and per reversal of an import. The id is made from the
-- file's content and the options that change rows, so the same work has one id.
CREATE TABLE tokenctl.import_batches (
  batch_id       text COLLATE "C" PRIMARY KEY,
  kind           text COLLATE "C" NOT NULL,
  state          text COLLATE "C" NOT NULL DEFAULT 'staging',
  file_name      text,
  file_sha256    text COLLATE "C",
  file_size      bigint,
  options        jsonb NOT NULL DEFAULT '{}',
  slices         integer NOT NULL,
  reverses_batch text COLLATE "C" REFERENCES tokenctl.import_batches,
  reason         text COLLATE "C",
  operator       text COLLATE "C" NOT NULL,
  claimed_by     text COLLATE "C" NOT NULL,
  request_id     text COLLATE "C" NOT NULL,
  rows_read      bigint,
  rejected       bigint,
  duplicate      bigint,
  applied        bigint,
  applied_tokens bigint,
  replayed       bigint,
  replayed_tokens bigint,
  conflicting    bigint,
  refused        bigint,
  started_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at    timestamptz,
  CONSTRAINT batch_id_form CHECK (batch_id ~ '^[0-9a-f]{12}$'),
  CONSTRAINT batch_kind_known CHECK (kind IN ('import', 'reversal')),
  CONSTRAINT batch_state_known CHECK (state IN ('staging', 'applying', 'done')),
  CONSTRAINT batch_reversal_paired CHECK ((kind = 'reversal') = (reverses_batch IS NOT NULL)),
  CONSTRAINT batch_file_paired CHECK ((kind = 'import') = (file_sha256 IS NOT NULL)),
  CONSTRAINT batch_slices_range CHECK (slices >= 1),
  CONSTRAINT batch_done_counted CHECK ((state = 'done') = (finished_at IS NOT NULL AND applied IS NOT NULL))
);
CREATE INDEX import_batches_reverses ON tokenctl.import_batches (reverses_batch) WHERE reverses_batch IS NOT NULL;

-- One row per slice of a batch: some thousand rows of some hundred users that are
-- posted in one transaction. `pending` turns `done` in that same transaction, so a
-- slice is posted once however many clients died over it.
CREATE TABLE tokenctl.import_lanes (
  batch_id        text COLLATE "C" NOT NULL REFERENCES tokenctl.import_batches ON DELETE CASCADE,
  part            integer NOT NULL,
  slice           integer NOT NULL,
  state           text COLLATE "C" NOT NULL DEFAULT 'pending',
  staged          bigint NOT NULL,
  staged_tokens   bigint NOT NULL,
  staged_users    bigint NOT NULL,
  applied         bigint NOT NULL DEFAULT 0,
  applied_tokens  bigint NOT NULL DEFAULT 0,
  replayed        bigint NOT NULL DEFAULT 0,
  replayed_tokens bigint NOT NULL DEFAULT 0,
  conflicting     bigint NOT NULL DEFAULT 0,
  refused         bigint NOT NULL DEFAULT 0,
  findings        jsonb,
  finished_at     timestamptz,
  CONSTRAINT import_lanes_pkey PRIMARY KEY (batch_id, part, slice),
  CONSTRAINT lane_state_known CHECK (state IN ('pending', 'done')),
  CONSTRAINT lane_adds_up CHECK (state = 'pending' OR applied + replayed + conflicting + refused = staged)
);

-- What the ledger's rows do not say: refusals and administrative actions.
CREATE TABLE tokenctl.audit_log (
  audit_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at         timestamptz NOT NULL DEFAULT clock_timestamp(),
  operator   text COLLATE "C" NOT NULL,
  claimed_by text COLLATE "C" NOT NULL,
  request_id text COLLATE "C" NOT NULL,
  action     text COLLATE "C" NOT NULL,
  outcome    text COLLATE "C" NOT NULL,
  subject    text COLLATE "C",
  arguments  jsonb NOT NULL DEFAULT '{}'
);

-- The other side of every transaction: funds have no stored balance, so there is
-- no row that everybody would have to lock.
CREATE VIEW tokenctl.token_funds AS
  SELECT kind AS fund, -sum(amount) AS balance, count(*) AS entries
  FROM tokenctl.token_transactions GROUP BY kind;

-- A running sum of tokens. The built-in sum(bigint) answers numeric, which costs an
-- import a tenth of its rate; this one raises when a sum leaves bigint.
CREATE AGGREGATE tokenctl.sum_tokens(bigint) (SFUNC = pg_catalog.int8pl, STYPE = bigint, INITCOND = '0');

CREATE FUNCTION tokenctl.refuse_change() RETURNS trigger
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION '% on %.% is refused: the ledger is append only; corrections are reversals',
    TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

-- The partitions, and the append-only triggers on every one of them: a TRUNCATE
-- trigger on the parent does not fire for a partition. ENABLE ALWAYS holds under
-- session_replication_role = replica as well.
DO $$
DECLARE
  modulus integer := current_setting('tokenctl.partitions')::integer;
  parent  text;
  child   text;
BEGIN
  FOREACH parent IN ARRAY ARRAY['token_accounts', 'token_transactions', 'token_holds'] LOOP
    FOR i IN 0 .. modulus - 1 LOOP
      child := parent || '_' || i;
      EXECUTE format('CREATE TABLE tokenctl.%I PARTITION OF tokenctl.%I FOR VALUES WITH (MODULUS %s, REMAINDER %s)', child, parent, modulus, i);
      IF parent = 'token_accounts' THEN
        -- Room on each page for the next version of a row, so that an update
        -- touches no index.
        EXECUTE format('ALTER TABLE tokenctl.%I SET (fillfactor = 70)', child);
      END IF;
    END LOOP;
  END LOOP;
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tokenctl.token_transactions
  FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tokenctl.audit_log
  FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();
CREATE TRIGGER never_deleted BEFORE DELETE ON tokenctl.token_accounts
  FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();

DO $$
DECLARE
  target  record;
BEGIN
  FOR target IN
    SELECT c.oid::regclass AS name, c.relkind FROM pg_class c
    WHERE c.relnamespace = 'tokenctl'::regnamespace AND c.relkind IN ('r', 'p')
      AND (c.relname LIKE 'token\_transactions%' OR c.relname LIKE 'token\_accounts%' OR c.relname = 'audit_log')
  LOOP
    EXECUTE format('CREATE TRIGGER never_truncated BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.refuse_change()', target.name);
  END LOOP;
  FOR target IN
    SELECT t.tgrelid::regclass AS name, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'tokenctl'::regnamespace AND t.tgname IN ('append_only', 'never_deleted', 'never_truncated')
  LOOP
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', target.name, target.tgname);
  END LOOP;
END
$$;

GRANT USAGE ON SCHEMA tokenctl TO tokenctl_reader;
GRANT USAGE ON SCHEMA tokenctl_staging TO tokenctl_batch;
GRANT SELECT ON tokenctl.token_accounts, tokenctl.token_transactions, tokenctl.token_holds, tokenctl.token_funds,
  tokenctl.import_batches, tokenctl.import_lanes, tokenctl.schema_migrations, tokenctl.schema_functions TO tokenctl_reader;
GRANT SELECT ON tokenctl.audit_log TO tokenctl_admin;
REVOKE ALL ON FUNCTION tokenctl.sum_tokens(bigint), tokenctl.partition_count(), tokenctl.refuse_change() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tokenctl.partition_count() TO tokenctl_reader;
