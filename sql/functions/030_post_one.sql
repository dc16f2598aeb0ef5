-- The posting path of one user: a grant, a reversal and a capture end here.
-- Lock the account, then read, then write, each in a statement of its own: under
-- READ COMMITTED the reads see all that was committed before the lock was ours.
CREATE OR REPLACE FUNCTION tokenctl.post_one(
  p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text,
  p_key text, p_reverses_seq bigint, p_request_id text, p_claimed_by text, p_new_user boolean
) RETURNS tokenctl.receipt_v1
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  account tokenctl.token_accounts;
  entry   tokenctl.token_transactions;
  receipt tokenctl.receipt_v1;
BEGIN
  IF p_reason !~ '^[a-z][a-z0-9_-]*$' THEN
    RAISE EXCEPTION 'a reason has not its form' USING ERRCODE = 'check_violation', CONSTRAINT = 'reason_form';
  END IF;
  receipt.user_id := p_user_id;
  receipt.amount := p_amount;
  IF p_new_user THEN
    INSERT INTO tokenctl.token_accounts (user_id) VALUES (p_user_id) ON CONFLICT DO NOTHING;
  END IF;
  SELECT * INTO account FROM tokenctl.token_accounts a WHERE a.user_id = p_user_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    receipt.outcome := 'unknown_user';
    RETURN receipt;
  END IF;

  SELECT * INTO entry FROM tokenctl.token_transactions t WHERE t.user_id = p_user_id AND t.idempotency_key = p_key;
  IF FOUND THEN
    receipt := tokenctl.receipt_of(entry);
    receipt.outcome := CASE
      WHEN (entry.kind, entry.amount, entry.reason, entry.ticket, entry.campaign, entry.reverses_seq)
        IS DISTINCT FROM (p_kind, p_amount, p_reason, p_ticket, p_campaign, p_reverses_seq) THEN 'conflict'
      WHEN receipt.reversed_by IS NOT NULL THEN 'replay_reversed'
      ELSE 'replayed' END;
    RETURN receipt;
  END IF;

  receipt.balance_before := account.balance;
  receipt.held := tokenctl.held_tokens(p_user_id);
  IF p_amount < 0 AND account.balance - receipt.held + p_amount < 0 THEN
    receipt.outcome := 'insufficient';
    receipt.missing := -(account.balance - receipt.held + p_amount);
    RETURN receipt;
  END IF;
  IF account.balance + p_amount > 9007199254740991 THEN
    receipt.outcome := 'too_large';
    RETURN receipt;
  END IF;

  UPDATE tokenctl.token_accounts a
  SET balance = a.balance + p_amount, last_seq = a.last_seq + 1, updated_at = greatest(clock_timestamp(), a.updated_at)
  WHERE a.user_id = p_user_id
  RETURNING * INTO account;
  INSERT INTO tokenctl.token_transactions (user_id, seq, amount, balance_after, created_at, reverses_seq, kind, reason, ticket,
    campaign, operator, claimed_by, request_id, idempotency_key, note)
  VALUES (p_user_id, account.last_seq, p_amount, account.balance, account.updated_at, p_reverses_seq, p_kind, p_reason, p_ticket,
    p_campaign, session_user, p_claimed_by, p_request_id, p_key, p_note)
  RETURNING * INTO entry;
  receipt := (('applied', entry.user_id, entry.seq, entry.kind, entry.amount, entry.balance_after - entry.amount, entry.balance_after,
    receipt.held, NULL, entry.reason, entry.note, entry.ticket, entry.campaign, entry.operator, entry.claimed_by, entry.request_id,
    entry.idempotency_key, entry.batch_id, entry.reverses_seq, NULL, entry.created_at)::tokenctl.receipt_v1);
  RETURN receipt;
END
$$;

-- A transaction as a receipt, with the reversal that undoes it today.
CREATE OR REPLACE FUNCTION tokenctl.receipt_of(p_entry tokenctl.token_transactions) RETURNS tokenctl.receipt_v1
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (NULL, p_entry.user_id, p_entry.seq, p_entry.kind, p_entry.amount, p_entry.balance_after - p_entry.amount, p_entry.balance_after,
    tokenctl.held_tokens(p_entry.user_id), NULL, p_entry.reason, p_entry.note, p_entry.ticket, p_entry.campaign, p_entry.operator,
    p_entry.claimed_by, p_entry.request_id, p_entry.idempotency_key, p_entry.batch_id, p_entry.reverses_seq,
    tokenctl.effective_reversal(p_entry.user_id, p_entry.seq), p_entry.created_at)::tokenctl.receipt_v1;
END
$$;

REVOKE ALL ON FUNCTION tokenctl.receipt_of(tokenctl.token_transactions),
  tokenctl.post_one(text, text, bigint, text, text, text, text, text, bigint, text, text, boolean) FROM PUBLIC;
