-- A generation, from its hold to its capture or release. Each function is one transaction
-- that begins with the account's lock, so that the balance, its holds and their states are
-- read as they are now; capture and release exclude each other by the hold's state.

DO $$
BEGIN
  IF to_regtype('tokenctl.generation_v1') IS NULL THEN
    -- `outcome` is what became of the call:
    --   held          the tokens are under a hold now
    --   open          the same key and content have a hold already, and nobody has finished it
    --   captured      paid: the image exists; captured_seq is the transaction
    --   reversed      paid, and that transaction was reversed since
    --   released      not paid; the tokens are free again
    --   already_released  they were, before this run asked: somebody else released it
    --   not_past      only what is past its deadline was to be released, and the deadline is ahead
    --   claimed       this run may call the provider now, until lease_until
    --   busy          another run holds the lease, until lease_until; or it took this run's over
    --   exhausted     the provider was called as often as one generation may
    --   expired       the hold's deadline is past
    --   conflict      the key was used for another generation
    --   unknown_user, unknown_generation, insufficient (`missing` tokens), not_allowed
    CREATE TYPE tokenctl.generation_v1 AS (
      outcome       text,
      user_id       text,
      generation_id text,
      state         text,
      amount        bigint,
      balance       bigint,
      available     bigint,
      missing       bigint,
      expires_at    timestamptz,
      attempts      integer,
      lease_until   timestamptz,
      captured_seq  bigint,
      quality       text,
      model         text,
      aspect_ratio  text,
      price_version text,
      input_sha256  text,
      image_sha256  text,
      image_bytes   bigint,
      width         integer,
      height        integer,
      idempotency_key text,
      created_at    timestamptz,
      response_id   text,
      model_version text,
      usage         jsonb
    );
  END IF;
END
$$;

-- A generation as it stands, with what its user has; p_outcome NULL means its state, or that its
-- payment was taken back, which nobody should be told is a payment.
CREATE OR REPLACE FUNCTION tokenctl.generation_row(p_user_id text, p_generation_id text, p_outcome text) RETURNS tokenctl.generation_v1
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  answer tokenctl.generation_v1;
BEGIN
  SELECT coalesce(p_outcome, CASE WHEN tokenctl.effective_reversal(h.user_id, h.captured_seq) IS NULL THEN h.state ELSE 'reversed' END), g.user_id, g.generation_id, h.state, h.amount, a.balance,
    a.balance - tokenctl.held_tokens(g.user_id), NULL, h.expires_at, g.attempts, g.lease_until, h.captured_seq, g.quality, g.model,
    g.aspect_ratio, g.price_version, g.input_sha256, g.image_sha256, g.image_bytes, g.width, g.height,
    h.idempotency_key, g.created_at, g.response_id, g.model_version, g.usage
  INTO answer
  FROM tokenctl.generations g
  JOIN tokenctl.token_holds h ON h.user_id = g.user_id AND h.hold_id = g.generation_id
  JOIN tokenctl.token_accounts a ON a.user_id = g.user_id
  WHERE g.user_id = p_user_id AND g.generation_id = p_generation_id;
  IF NOT FOUND THEN
    answer.outcome := 'unknown_generation';
    answer.user_id := p_user_id;
    answer.generation_id := p_generation_id;
  END IF;
  RETURN answer;
END
$$;

CREATE OR REPLACE FUNCTION tokenctl.may_generate() RETURNS boolean
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN pg_has_role(session_user, 'tokenctl_support', 'MEMBER') OR pg_has_role(session_user, 'tokenctl_batch', 'MEMBER');
END
$$;

-- Put p_amount tokens under a hold for p_hold_s seconds. The same key with the same content
-- finds what it began: its hold when that is open, its image when it was paid; a hold that was
-- released or is past its deadline is made again, at the price of today, because nothing was
-- paid for it. A run that told how it failed leaves no calls behind to be counted; one that
-- died does.
CREATE OR REPLACE FUNCTION tokenctl.generation_open_v1(
  p_user_id text, p_generation_id text, p_amount bigint, p_hold_s integer, p_key text, p_model text, p_quality text,
  p_aspect_ratio text, p_price_version text, p_input_sha256 text, p_request_id text, p_claimed_by text
) RETURNS tokenctl.generation_v1
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  account tokenctl.token_accounts;
  hold    tokenctl.token_holds;
  made    tokenctl.generations;
  answer  tokenctl.generation_v1;
  v_now   timestamptz;
  is_running boolean;
BEGIN
  answer.user_id := p_user_id;
  answer.generation_id := p_generation_id;
  answer.amount := p_amount;
  IF NOT tokenctl.may_generate() THEN
    answer.outcome := 'not_allowed';
    PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'generate', answer.outcome, p_user_id, '{}');
    RETURN answer;
  END IF;
  SELECT * INTO account FROM tokenctl.token_accounts a WHERE a.user_id = p_user_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    answer.outcome := 'unknown_user';
    RETURN answer;
  END IF;
  v_now := clock_timestamp();
  SELECT * INTO hold FROM tokenctl.token_holds h WHERE h.user_id = p_user_id AND h.idempotency_key = p_key;
  IF FOUND THEN
    SELECT * INTO made FROM tokenctl.generations g WHERE g.user_id = p_user_id AND g.generation_id = hold.hold_id;
    is_running := hold.state = 'open' AND hold.expires_at > v_now;
    IF made.generation_id IS NULL
      OR (made.model, made.quality, made.aspect_ratio, made.input_sha256) IS DISTINCT FROM (p_model, p_quality, p_aspect_ratio, p_input_sha256)
      OR is_running AND (hold.amount, made.price_version) <> (p_amount, p_price_version)
    THEN
      RETURN tokenctl.generation_row(p_user_id, hold.hold_id, 'conflict');
    END IF;
    IF hold.state = 'captured' OR is_running THEN
      RETURN tokenctl.generation_row(p_user_id, hold.hold_id, NULL);
    END IF;
  END IF;
  answer.balance := account.balance;
  answer.available := account.balance - tokenctl.held_tokens(p_user_id);
  IF answer.available < p_amount THEN
    answer.outcome := 'insufficient';
    answer.missing := p_amount - answer.available;
    PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'generate', answer.outcome, p_user_id,
      jsonb_build_object('amount', p_amount, 'missing', answer.missing, 'key', p_key));
    RETURN answer;
  END IF;
  IF hold.hold_id IS NULL THEN
    INSERT INTO tokenctl.token_holds (user_id, hold_id, amount, expires_at, purpose, idempotency_key, operator, claimed_by, request_id)
    VALUES (p_user_id, p_generation_id, p_amount, v_now + p_hold_s * interval '1 s', 'image-' || lower(p_quality), p_key, session_user, p_claimed_by, p_request_id);
    INSERT INTO tokenctl.generations (user_id, generation_id, model, quality, aspect_ratio, price_version, input_sha256)
    VALUES (p_user_id, p_generation_id, p_model, p_quality, p_aspect_ratio, p_price_version, p_input_sha256);
  ELSE
    UPDATE tokenctl.token_holds h SET state = 'open', settled_at = NULL, expires_at = v_now + p_hold_s * interval '1 s',
      amount = p_amount, operator = session_user, claimed_by = p_claimed_by, request_id = p_request_id
    WHERE h.user_id = p_user_id AND h.hold_id = hold.hold_id;
    UPDATE tokenctl.generations g SET price_version = p_price_version, lease_by = NULL, lease_until = NULL, released_why = NULL,
      released_by = NULL, released_claimed_by = NULL, released_run = NULL,
      attempts = CASE WHEN hold.state = 'released' AND made.released_why NOT IN ('exhausted', 'deadline') THEN 0 ELSE g.attempts END
    WHERE g.user_id = p_user_id AND g.generation_id = hold.hold_id;
  END IF;
  RETURN tokenctl.generation_row(p_user_id, coalesce(hold.hold_id, p_generation_id), 'held');
END
$$;

-- The right to call the provider for p_lease_s seconds, given to one run at a time, which
-- p_lease_by names. It is asked for before every call, counts the calls, and moves the hold's
-- deadline along. From then on no other run can pay.
CREATE OR REPLACE FUNCTION tokenctl.generation_claim_v1(
  p_user_id text, p_generation_id text, p_lease_s integer, p_hold_s integer, p_max_attempts integer, p_lease_by text
) RETURNS tokenctl.generation_v1
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  answer tokenctl.generation_v1;
  made   tokenctl.generations;
  v_now  timestamptz;
BEGIN
  -- With any of these unknown another run's lease would be no obstacle, or have no end.
  IF (p_lease_by <> '' AND p_lease_s >= 0 AND p_hold_s >= 0 AND p_max_attempts >= 0) IS NOT TRUE THEN
    RAISE EXCEPTION 'a claim needs a name, its times and a limit' USING ERRCODE = 'check_violation', CONSTRAINT = 'claim_whole';
  END IF;
  PERFORM FROM tokenctl.token_accounts a WHERE a.user_id = p_user_id FOR NO KEY UPDATE;
  v_now := clock_timestamp();
  answer := tokenctl.generation_row(p_user_id, p_generation_id, NULL);
  IF NOT tokenctl.may_generate() THEN
    answer.outcome := 'not_allowed';
  ELSIF answer.outcome = 'open' THEN
    SELECT * INTO made FROM tokenctl.generations g WHERE g.user_id = p_user_id AND g.generation_id = p_generation_id;
    answer.outcome := CASE
      WHEN answer.expires_at <= v_now THEN 'expired'
      WHEN made.lease_until > v_now AND made.lease_by <> p_lease_by THEN 'busy'
      WHEN made.attempts >= p_max_attempts THEN 'exhausted'
      ELSE 'claimed' END;
  END IF;
  IF answer.outcome <> 'claimed' THEN
    RETURN answer;
  END IF;
  UPDATE tokenctl.generations g SET attempts = g.attempts + 1, lease_by = p_lease_by, lease_until = v_now + p_lease_s * interval '1 s'
  WHERE g.user_id = p_user_id AND g.generation_id = p_generation_id;
  UPDATE tokenctl.token_holds h SET expires_at = greatest(h.expires_at, v_now + p_hold_s * interval '1 s')
  WHERE h.user_id = p_user_id AND h.hold_id = p_generation_id;
  RETURN tokenctl.generation_row(p_user_id, p_generation_id, 'claimed');
END
$$;

-- Pay for an image that is on the disk: the hold becomes a transaction. A hold past its
-- deadline is paid all the same when the tokens are still there and no other run has claimed
-- it since. Asked again, it answers with the same transaction.
CREATE OR REPLACE FUNCTION tokenctl.generation_capture_v1(
  p_user_id text, p_generation_id text, p_image_sha256 text, p_image_bytes bigint, p_width integer, p_height integer,
  p_response_id text, p_model_version text, p_usage jsonb, p_lease_by text, p_request_id text, p_claimed_by text
) RETURNS tokenctl.generation_v1
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  answer  tokenctl.generation_v1;
  receipt tokenctl.receipt_v1;
BEGIN
  PERFORM FROM tokenctl.token_accounts a WHERE a.user_id = p_user_id FOR NO KEY UPDATE;
  answer := tokenctl.generation_row(p_user_id, p_generation_id, NULL);
  IF NOT tokenctl.may_generate() THEN
    answer.outcome := 'not_allowed';
  ELSIF answer.outcome = 'open' AND NOT EXISTS (
    SELECT FROM tokenctl.generations g WHERE g.user_id = p_user_id AND g.generation_id = p_generation_id AND g.lease_by = p_lease_by)
  THEN
    answer.outcome := 'busy';
  END IF;
  IF answer.outcome <> 'open' THEN
    RETURN answer;
  END IF;
  IF (p_image_sha256 ~ '^[0-9a-f]{64}$' AND p_image_bytes >= 1 AND p_width >= 1 AND p_height >= 1) IS NOT TRUE THEN
    RAISE EXCEPTION 'a payment needs an image' USING ERRCODE = 'check_violation', CONSTRAINT = 'image_whole';
  END IF;
  -- Settled first, so that this hold's own tokens are available to its payment.
  UPDATE tokenctl.token_holds h SET state = 'released', settled_at = clock_timestamp()
  WHERE h.user_id = p_user_id AND h.hold_id = p_generation_id;
  receipt := tokenctl.post_one(p_user_id, 'generation', -answer.amount, 'image-' || lower(answer.quality),
    format('generation %s, prices %s', p_generation_id, answer.price_version), NULL, NULL,
    'generation:' || p_generation_id, NULL, p_request_id, p_claimed_by, false);
  IF receipt.outcome NOT IN ('applied', 'replayed') THEN
    -- Past its deadline, and the tokens went elsewhere meanwhile: not paid, and on record.
    UPDATE tokenctl.generations g SET released_why = receipt.outcome, released_by = session_user,
      released_claimed_by = p_claimed_by, released_run = p_lease_by, lease_by = NULL, lease_until = NULL
    WHERE g.user_id = p_user_id AND g.generation_id = p_generation_id;
    PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'capture', receipt.outcome, p_user_id,
      jsonb_build_object('generation', p_generation_id, 'amount', answer.amount, 'missing', receipt.missing));
    answer := tokenctl.generation_row(p_user_id, p_generation_id, receipt.outcome);
    answer.missing := receipt.missing;
    RETURN answer;
  END IF;
  UPDATE tokenctl.token_holds h SET state = 'captured', settled_at = clock_timestamp(), captured_seq = receipt.seq
  WHERE h.user_id = p_user_id AND h.hold_id = p_generation_id;
  UPDATE tokenctl.generations g
  SET image_sha256 = p_image_sha256, image_bytes = p_image_bytes, width = p_width, height = p_height, response_id = p_response_id,
    model_version = p_model_version, usage = p_usage, lease_by = NULL, lease_until = NULL
  WHERE g.user_id = p_user_id AND g.generation_id = p_generation_id;
  RETURN tokenctl.generation_row(p_user_id, p_generation_id, NULL);
END
$$;

-- Give the tokens back. Only whoever has the lease may while it runs; p_force is for the
-- operator who knows better. With p_past_only a hold whose deadline is ahead stays: since
-- somebody saw it past, it may have been made again. Asked again by the run that p_lease_by
-- names it answers the same; after another run's release, or a capture, how things stand.
CREATE OR REPLACE FUNCTION tokenctl.generation_release_v1(
  p_user_id text, p_generation_id text, p_why text, p_force boolean, p_past_only boolean, p_lease_by text, p_request_id text,
  p_claimed_by text
) RETURNS tokenctl.generation_v1
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  answer tokenctl.generation_v1;
  made   tokenctl.generations;
BEGIN
  PERFORM FROM tokenctl.token_accounts a WHERE a.user_id = p_user_id FOR NO KEY UPDATE;
  answer := tokenctl.generation_row(p_user_id, p_generation_id, NULL);
  SELECT * INTO made FROM tokenctl.generations g WHERE g.user_id = p_user_id AND g.generation_id = p_generation_id;
  IF NOT tokenctl.may_generate() THEN
    answer.outcome := 'not_allowed';
  ELSIF answer.outcome = 'open' AND p_force IS NOT TRUE AND made.lease_until > clock_timestamp()
    AND made.lease_by IS DISTINCT FROM p_lease_by
  THEN
    answer.outcome := 'busy';
  ELSIF answer.outcome = 'open' AND p_past_only IS NOT FALSE AND answer.expires_at > clock_timestamp() THEN
    answer.outcome := 'not_past';
  ELSIF answer.outcome = 'released' AND made.released_run IS DISTINCT FROM p_lease_by THEN
    answer.outcome := 'already_released';
  END IF;
  IF answer.outcome <> 'open' THEN
    RETURN answer;
  END IF;
  UPDATE tokenctl.token_holds h SET state = 'released', settled_at = clock_timestamp()
  WHERE h.user_id = p_user_id AND h.hold_id = p_generation_id;
  UPDATE tokenctl.generations g SET released_why = left(p_why, 100), released_by = session_user,
    released_claimed_by = p_claimed_by, released_run = p_lease_by, lease_by = NULL, lease_until = NULL
  WHERE g.user_id = p_user_id AND g.generation_id = p_generation_id;
  IF p_force THEN
    PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'release', 'released', p_user_id, jsonb_build_object('generation', p_generation_id, 'why', p_why));
  END IF;
  RETURN tokenctl.generation_row(p_user_id, p_generation_id, NULL);
END
$$;

-- A generation as it stands.
CREATE OR REPLACE FUNCTION tokenctl.generation_v1(p_user_id text, p_generation_id text) RETURNS tokenctl.generation_v1
  LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN tokenctl.generation_row(p_user_id, p_generation_id, NULL);
END
$$;

REVOKE ALL ON FUNCTION tokenctl.generation_row(text, text, text), tokenctl.may_generate(),
  tokenctl.generation_open_v1(text, text, bigint, integer, text, text, text, text, text, text, text, text),
  tokenctl.generation_claim_v1(text, text, integer, integer, integer, text),
  tokenctl.generation_capture_v1(text, text, text, bigint, integer, integer, text, text, jsonb, text, text, text),
  tokenctl.generation_release_v1(text, text, text, boolean, boolean, text, text, text), tokenctl.generation_v1(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
  tokenctl.generation_open_v1(text, text, bigint, integer, text, text, text, text, text, text, text, text),
  tokenctl.generation_claim_v1(text, text, integer, integer, integer, text),
  tokenctl.generation_capture_v1(text, text, text, bigint, integer, integer, text, text, jsonb, text, text, text),
  tokenctl.generation_release_v1(text, text, text, boolean, boolean, text, text, text) TO tokenctl_support, tokenctl_batch;
GRANT EXECUTE ON FUNCTION tokenctl.generation_v1(text, text) TO tokenctl_reader;
