-- What a write answers. `outcome` says which of the ledger's rules spoke; a refusal
-- is an answer, not an error, because an error would undo its own audit row.
--   applied           posted now
--   replayed          the same key and content were posted before; this is that entry
--   replay_reversed   as replayed, but that entry has been reversed since
--   conflict          the key was used with other content; this is what it was used for
--   unknown_user      nobody of that id; nothing was made
--   unknown_entry     no transaction of that name
--   already_reversed  the transaction has a reversal; this is the reversal
--   insufficient      `missing` tokens are not available (spent, or held)
--   too_large         the balance would pass 2^53 - 1
--   not_allowed       the session's role may not do this
DO $$
BEGIN
  IF to_regtype('tokenctl.receipt_v1') IS NULL THEN
    CREATE TYPE tokenctl.receipt_v1 AS (
      outcome         text,
      user_id         text,
      seq             bigint,
      kind            text,
      amount          bigint,
      balance_before  bigint,
      balance_after   bigint,
      held            bigint,
      missing         bigint,
      reason          text,
      note            text,
      ticket          text,
      campaign        text,
      operator        text,
      claimed_by      text,
      request_id      text,
      idempotency_key text,
      batch_id        text,
      reverses_seq    bigint,
      reversed_by     bigint,
      created_at      timestamptz
    );
  END IF;
END
$$;
