-- A grant to one user. One call is one transaction; repeat it freely with its key.
-- Without p_key the key is derived (grant_key_v1), or is the campaign's.
CREATE OR REPLACE FUNCTION tokenctl.post_v1(
  p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text,
  p_key text, p_request_id text, p_claimed_by text, p_new_user boolean
) RETURNS tokenctl.receipt_v1
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  receipt tokenctl.receipt_v1;
  v_key   text := coalesce(p_key, 'bonus:' || p_campaign, tokenctl.grant_key_v1(p_user_id, p_amount, p_reason, p_ticket));
BEGIN
  IF p_amount IS NULL OR p_amount < 1 THEN
    RAISE EXCEPTION 'a grant is at least one token' USING ERRCODE = 'check_violation', CONSTRAINT = 'grant_positive';
  END IF;
  PERFORM tokenctl.demand_free_key(p_key);
  IF tokenctl.may_post(p_kind) THEN
    receipt := tokenctl.post_one(p_user_id, p_kind, p_amount, p_reason, p_note, p_ticket, p_campaign, v_key, NULL,
      p_request_id, p_claimed_by, p_new_user);
  ELSE
    receipt.outcome := 'not_allowed';
  END IF;
  receipt.user_id := p_user_id;
  receipt.idempotency_key := coalesce(receipt.idempotency_key, v_key);
  IF receipt.outcome NOT IN ('applied', 'replayed') THEN
    PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'grant', receipt.outcome, p_user_id, jsonb_build_object(
      'kind', p_kind, 'amount', p_amount, 'reason', p_reason, 'ticket', p_ticket, 'campaign', p_campaign, 'key', v_key));
  END IF;
  RETURN receipt;
END
$$;

-- The compensating entry of one transaction, at most once, of the same kind so that
-- the funds net out. The same key replays; without one, a retry of the same request does.
-- A conflict is of a key that somebody chose: whoever chose none is told of the reversal.
CREATE OR REPLACE FUNCTION tokenctl.reverse_v1(
  p_user_id text, p_seq bigint, p_reason text, p_note text, p_ticket text, p_key text, p_request_id text, p_claimed_by text
) RETURNS tokenctl.receipt_v1
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  original tokenctl.token_transactions;
  reversal tokenctl.token_transactions;
  receipt  tokenctl.receipt_v1;
BEGIN
  IF p_key IS DISTINCT FROM 'reverse:' || p_seq THEN
    PERFORM tokenctl.demand_free_key(p_key);
  END IF;
  IF NOT (pg_has_role(session_user, 'tokenctl_support', 'MEMBER') OR pg_has_role(session_user, 'tokenctl_batch', 'MEMBER')) THEN
    receipt.outcome := 'not_allowed';
  ELSE
    -- The lock first: without it a twin's reversal could commit between the reads.
    PERFORM FROM tokenctl.token_accounts a WHERE a.user_id = p_user_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
      receipt.outcome := 'unknown_user';
    ELSE
      SELECT * INTO original FROM tokenctl.token_transactions t WHERE t.user_id = p_user_id AND t.seq = p_seq;
      SELECT * INTO reversal FROM tokenctl.token_transactions t WHERE t.user_id = p_user_id AND t.reverses_seq = p_seq;
      IF original.seq IS NULL THEN
        receipt.outcome := 'unknown_entry';
      ELSIF reversal.idempotency_key <> p_key OR p_key IS NULL AND reversal.request_id <> p_request_id THEN
        receipt := tokenctl.receipt_of(reversal);
        receipt.outcome := 'already_reversed';
      ELSE
        receipt := tokenctl.post_one(p_user_id, original.kind, -original.amount, p_reason, p_note, p_ticket, NULL,
          coalesce(p_key, reversal.idempotency_key, 'reverse:' || p_seq), p_seq, p_request_id, p_claimed_by, false);
        IF receipt.outcome = 'conflict' AND reversal.seq IS NOT NULL AND coalesce(p_key, '') IN ('', 'reverse:' || p_seq) THEN
          receipt.outcome := 'already_reversed';
        END IF;
      END IF;
    END IF;
  END IF;
  receipt.user_id := p_user_id;
  receipt.idempotency_key := coalesce(receipt.idempotency_key, p_key, 'reverse:' || p_seq);
  IF receipt.outcome NOT IN ('applied', 'replayed') THEN
    PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'reverse', receipt.outcome, p_user_id || ':' || p_seq,
      jsonb_build_object('reason', p_reason, 'ticket', p_ticket, 'key', p_key, 'missing', receipt.missing));
  END IF;
  RETURN receipt;
END
$$;

REVOKE ALL ON FUNCTION tokenctl.post_v1(text, text, bigint, text, text, text, text, text, text, text, boolean),
  tokenctl.reverse_v1(text, bigint, text, text, text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tokenctl.post_v1(text, text, bigint, text, text, text, text, text, text, text, boolean),
  tokenctl.reverse_v1(text, bigint, text, text, text, text, text, text) TO tokenctl_support, tokenctl_batch;
