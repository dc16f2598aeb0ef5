-- Made by `make schema` from sql/migrations and sql/functions; read it, do not edit it.

--
-- PostgreSQL database dump
--

\restrict tokenctl


SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: tokenctl; Type: SCHEMA; Schema: -; Owner: tokenctl_owner
--

CREATE SCHEMA tokenctl;


ALTER SCHEMA tokenctl OWNER TO tokenctl_owner;

--
-- Name: tokenctl_staging; Type: SCHEMA; Schema: -; Owner: tokenctl_owner
--

CREATE SCHEMA tokenctl_staging;


ALTER SCHEMA tokenctl_staging OWNER TO tokenctl_owner;

--
-- Name: generation_v1; Type: TYPE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TYPE tokenctl.generation_v1 AS (
	outcome text,
	user_id text,
	generation_id text,
	state text,
	amount bigint,
	balance bigint,
	available bigint,
	missing bigint,
	expires_at timestamp with time zone,
	attempts integer,
	lease_until timestamp with time zone,
	captured_seq bigint,
	quality text,
	model text,
	aspect_ratio text,
	price_version text,
	input_sha256 text,
	image_sha256 text,
	image_bytes bigint,
	width integer,
	height integer,
	idempotency_key text,
	created_at timestamp with time zone,
	response_id text,
	model_version text,
	usage jsonb
);


ALTER TYPE tokenctl.generation_v1 OWNER TO tokenctl_owner;

--
-- Name: receipt_v1; Type: TYPE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TYPE tokenctl.receipt_v1 AS (
	outcome text,
	user_id text,
	seq bigint,
	kind text,
	amount bigint,
	balance_before bigint,
	balance_after bigint,
	held bigint,
	missing bigint,
	reason text,
	note text,
	ticket text,
	campaign text,
	operator text,
	claimed_by text,
	request_id text,
	idempotency_key text,
	batch_id text,
	reverses_seq bigint,
	reversed_by bigint,
	created_at timestamp with time zone
);


ALTER TYPE tokenctl.receipt_v1 OWNER TO tokenctl_owner;

--
-- Name: audit(text, text, text, text, text, jsonb); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.audit(p_claimed_by text, p_request_id text, p_action text, p_outcome text, p_subject text, p_arguments jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  INSERT INTO tokenctl.audit_log (operator, claimed_by, request_id, action, outcome, subject, arguments)
  VALUES (session_user, p_claimed_by, p_request_id, p_action, p_outcome, p_subject, jsonb_strip_nulls(p_arguments));
END
$$;


ALTER FUNCTION tokenctl.audit(p_claimed_by text, p_request_id text, p_action text, p_outcome text, p_subject text, p_arguments jsonb) OWNER TO tokenctl_owner;

--
-- Name: batch_begin(text, jsonb); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.batch_begin(p_batch text, p_options jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  UPDATE tokenctl.import_batches b
  SET state = 'applying', options = b.options || p_options, opened_as = NULL, operator = coalesce(b.opened_as ->> 'operator', b.operator),
    claimed_by = coalesce(b.opened_as ->> 'claimed_by', b.claimed_by), request_id = coalesce(b.opened_as ->> 'request_id', b.request_id)
  WHERE b.batch_id = p_batch;
END
$$;


ALTER FUNCTION tokenctl.batch_begin(p_batch text, p_options jsonb) OWNER TO tokenctl_owner;

--
-- Name: batch_is_reversed(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.batch_is_reversed(p_batch text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM tokenctl.import_batches r
    WHERE r.reverses_batch = p_batch AND (r.state = 'applying' OR r.applied > 0) AND NOT tokenctl.batch_is_reversed(r.batch_id));
END
$$;


ALTER FUNCTION tokenctl.batch_is_reversed(p_batch text) OWNER TO tokenctl_owner;

--
-- Name: demand_free_key(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.demand_free_key(p_key text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  IF starts_with(p_key, 'reverse:') OR starts_with(p_key, 'generation:') THEN
    RAISE EXCEPTION 'the key is of the ledger''s own kind' USING ERRCODE = 'check_violation', CONSTRAINT = 'key_reserved';
  END IF;
END
$$;


ALTER FUNCTION tokenctl.demand_free_key(p_key text) OWNER TO tokenctl_owner;

--
-- Name: done_by(text, timestamp with time zone, timestamp with time zone); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.done_by(p_name text, p_since timestamp with time zone, p_until timestamp with time zone) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
BEGIN
  RETURN format('(t.operator = %1$L OR t.claimed_by = %1$L OR starts_with(t.claimed_by, %2$L)) AND t.created_at >= %3$L AND t.created_at < %4$L',
    p_name, p_name || '@', p_since, p_until);
END
$_$;


ALTER FUNCTION tokenctl.done_by(p_name text, p_since timestamp with time zone, p_until timestamp with time zone) OWNER TO tokenctl_owner;

--
-- Name: effective_reversal(text, bigint); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.effective_reversal(p_user_id text, p_seq bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  v_last     bigint := p_seq;
  v_next     bigint;
  v_reversed boolean := false;
BEGIN
  LOOP
    SELECT t.seq INTO v_next FROM tokenctl.token_transactions t WHERE t.user_id = p_user_id AND t.reverses_seq = v_last;
    EXIT WHEN v_next IS NULL;
    v_reversed := NOT v_reversed;
    v_last := v_next;
  END LOOP;
  RETURN CASE WHEN v_reversed THEN v_last END;
END
$$;


ALTER FUNCTION tokenctl.effective_reversal(p_user_id text, p_seq bigint) OWNER TO tokenctl_owner;

--
-- Name: generation_capture_v1(text, text, text, bigint, integer, integer, text, text, jsonb, text, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.generation_capture_v1(p_user_id text, p_generation_id text, p_image_sha256 text, p_image_bytes bigint, p_width integer, p_height integer, p_response_id text, p_model_version text, p_usage jsonb, p_lease_by text, p_request_id text, p_claimed_by text) RETURNS tokenctl.generation_v1
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
    AS $_$
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
$_$;


ALTER FUNCTION tokenctl.generation_capture_v1(p_user_id text, p_generation_id text, p_image_sha256 text, p_image_bytes bigint, p_width integer, p_height integer, p_response_id text, p_model_version text, p_usage jsonb, p_lease_by text, p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: generation_claim_v1(text, text, integer, integer, integer, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.generation_claim_v1(p_user_id text, p_generation_id text, p_lease_s integer, p_hold_s integer, p_max_attempts integer, p_lease_by text) RETURNS tokenctl.generation_v1
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
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


ALTER FUNCTION tokenctl.generation_claim_v1(p_user_id text, p_generation_id text, p_lease_s integer, p_hold_s integer, p_max_attempts integer, p_lease_by text) OWNER TO tokenctl_owner;

--
-- Name: generation_open_v1(text, text, bigint, integer, text, text, text, text, text, text, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.generation_open_v1(p_user_id text, p_generation_id text, p_amount bigint, p_hold_s integer, p_key text, p_model text, p_quality text, p_aspect_ratio text, p_price_version text, p_input_sha256 text, p_request_id text, p_claimed_by text) RETURNS tokenctl.generation_v1
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
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


ALTER FUNCTION tokenctl.generation_open_v1(p_user_id text, p_generation_id text, p_amount bigint, p_hold_s integer, p_key text, p_model text, p_quality text, p_aspect_ratio text, p_price_version text, p_input_sha256 text, p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: generation_release_v1(text, text, text, boolean, boolean, text, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.generation_release_v1(p_user_id text, p_generation_id text, p_why text, p_force boolean, p_past_only boolean, p_lease_by text, p_request_id text, p_claimed_by text) RETURNS tokenctl.generation_v1
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
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


ALTER FUNCTION tokenctl.generation_release_v1(p_user_id text, p_generation_id text, p_why text, p_force boolean, p_past_only boolean, p_lease_by text, p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: generation_row(text, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.generation_row(p_user_id text, p_generation_id text, p_outcome text) RETURNS tokenctl.generation_v1
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
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


ALTER FUNCTION tokenctl.generation_row(p_user_id text, p_generation_id text, p_outcome text) OWNER TO tokenctl_owner;

--
-- Name: generation_v1(text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.generation_v1(p_user_id text, p_generation_id text) RETURNS tokenctl.generation_v1
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN tokenctl.generation_row(p_user_id, p_generation_id, NULL);
END
$$;


ALTER FUNCTION tokenctl.generation_v1(p_user_id text, p_generation_id text) OWNER TO tokenctl_owner;

--
-- Name: grant_key_v1(text, bigint, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.grant_key_v1(p_user_id text, p_amount bigint, p_reason text, p_ticket text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  v_day   text := to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD');
  v_parts text;
BEGIN
  SELECT string_agg(CASE WHEN part IS NULL THEN '-' ELSE octet_length(part) || ':' || part END, '' ORDER BY n) INTO v_parts
  FROM unnest(ARRAY[p_user_id, p_amount::text, p_reason, p_ticket]) WITH ORDINALITY AS list(part, n);
  RETURN 'grant:' || v_day || ':' || left(encode(sha256(convert_to(v_parts, 'UTF8')), 'hex'), 20);
END
$$;


ALTER FUNCTION tokenctl.grant_key_v1(p_user_id text, p_amount bigint, p_reason text, p_ticket text) OWNER TO tokenctl_owner;

--
-- Name: held_by_a(integer); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.held_by_a(p_part integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN format('(SELECT coalesce(sum(h.amount), 0)::bigint FROM tokenctl.%I h'
    ' WHERE h.user_id = a.user_id AND h.state = ''open'' AND h.expires_at > clock_timestamp())', 'token_holds_' || p_part);
END
$$;


ALTER FUNCTION tokenctl.held_by_a(p_part integer) OWNER TO tokenctl_owner;

--
-- Name: held_tokens(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.held_tokens(p_user_id text) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN (SELECT coalesce(sum(h.amount), 0)::bigint FROM tokenctl.token_holds h
          WHERE h.user_id = p_user_id AND h.state = 'open' AND h.expires_at > clock_timestamp());
END
$$;


ALTER FUNCTION tokenctl.held_tokens(p_user_id text) OWNER TO tokenctl_owner;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: import_lanes; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.import_lanes (
    batch_id text NOT NULL COLLATE pg_catalog."C",
    part integer NOT NULL,
    slice integer NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL COLLATE pg_catalog."C",
    staged bigint NOT NULL,
    staged_tokens bigint NOT NULL,
    staged_users bigint NOT NULL,
    applied bigint DEFAULT 0 NOT NULL,
    applied_tokens bigint DEFAULT 0 NOT NULL,
    replayed bigint DEFAULT 0 NOT NULL,
    replayed_tokens bigint DEFAULT 0 NOT NULL,
    conflicting bigint DEFAULT 0 NOT NULL,
    refused bigint DEFAULT 0 NOT NULL,
    findings jsonb,
    finished_at timestamp with time zone,
    from_user text COLLATE pg_catalog."C",
    staged_lines bigint,
    CONSTRAINT lane_adds_up CHECK (((state = 'pending'::text) OR ((((applied + replayed) + conflicting) + refused) = staged))),
    CONSTRAINT lane_state_known CHECK ((state = ANY (ARRAY['pending'::text, 'done'::text])))
);


ALTER TABLE tokenctl.import_lanes OWNER TO tokenctl_owner;

--
-- Name: import_apply_v1(text, integer, integer, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_apply_v1(p_batch text, p_part integer, p_slice integer, p_request_id text, p_claimed_by text) RETURNS tokenctl.import_lanes
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '60s'
    AS $$
DECLARE
  batch    tokenctl.import_batches := tokenctl.import_own(p_batch);
  lane     tokenctl.import_lanes;
  v_users  text;
  v_source text;
  v_judge  boolean := false;
BEGIN
  IF batch.state <> 'applying' THEN
    RAISE EXCEPTION 'batch % has not begun', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  -- Who lost the lock without noticing would post what another run of the same login has staged and planned.
  IF batch.request_id <> p_request_id THEN
    RAISE EXCEPTION 'batch % was opened anew', p_batch USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'batch_lost';
  END IF;
  -- The commit of a slice need not wait for the disk: nothing is promised before
  -- import_close_v1, whose commit waits, and the log reaches the disk in order. A crash
  -- of the server takes the slice together with its lane, and the next run posts it.
  PERFORM set_config('synchronous_commit', 'off', true);
  -- One multi-user post at a time in a partition: two of them that lock the same
  -- accounts in different orders would deadlock. Single posts hold one lock only.
  PERFORM pg_advisory_xact_lock(hashtext('tokenctl partition'), p_part);
  SELECT * INTO lane FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch AND l.part = p_part AND l.slice = p_slice FOR UPDATE;
  IF NOT FOUND OR lane.state = 'done' THEN
    RETURN lane;
  END IF;
  IF to_regclass(tokenctl.staging_part(p_batch, p_part)) IS NULL THEN
    RAISE EXCEPTION 'the staged rows of batch % are gone', p_batch USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'staging_lost';
  END IF;
  -- Accounts are changed by the sums of the rows, entries made of the rows: nobody may change these in between.
  EXECUTE format('LOCK TABLE %s IN SHARE MODE', tokenctl.staging_part(p_batch, p_part));
  v_users := 'user_id >= ' || quote_literal(lane.from_user) || coalesce(' AND user_id < ' || quote_literal((
    SELECT min(l.from_user) FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch AND l.part = p_part AND l.from_user > lane.from_user)), '');
  v_source := format('(SELECT * FROM %s WHERE %s)', tokenctl.staging_part(p_batch, p_part), v_users);
  v_judge := lane.applied > 0;  -- posted before, and to be judged again
  IF batch.kind = 'reversal' AND NOT v_judge THEN  -- what the plan left out stays out, also where nothing would refuse it by now
    EXECUTE format('SELECT EXISTS (SELECT FROM %s s WHERE left_out IS NOT NULL)', v_source) INTO v_judge;
  END IF;
  IF NOT v_judge THEN
    BEGIN
      lane.applied := tokenctl.post_set(p_part, v_source, format('SELECT user_id, tokens, n FROM %s WHERE part = %s AND %s ORDER BY user_id',
        tokenctl.staging_sums(p_batch), p_part, v_users), v_users, lane.staged_users, batch.kind = 'reversal', p_batch, p_request_id, p_claimed_by);
      lane.applied_tokens := lane.staged_tokens;
      lane.replayed := 0;
      lane.replayed_tokens := 0;
      lane.conflicting := 0;
      lane.refused := 0;
      lane.findings := NULL;
    EXCEPTION WHEN unique_violation OR check_violation OR numeric_value_out_of_range THEN
      v_judge := true;
    END;
  END IF;
  IF v_judge THEN
    lane := tokenctl.post_sorted(lane, v_source, batch.kind = 'reversal', p_request_id, p_claimed_by);
  END IF;
  -- Unlogged rows are gone after a crash of the server, while the batch still says
  -- that they were staged.
  IF lane.applied + lane.replayed + lane.conflicting + lane.refused <> lane.staged THEN
    RAISE EXCEPTION 'the staged rows of batch % are gone', p_batch USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'staging_lost';
  END IF;
  lane.state := 'done';
  lane.finished_at := clock_timestamp();
  UPDATE tokenctl.import_lanes l
  SET (state, applied, applied_tokens, replayed, replayed_tokens, conflicting, refused, findings, finished_at)
    = (lane.state, lane.applied, lane.applied_tokens, lane.replayed, lane.replayed_tokens, lane.conflicting, lane.refused, lane.findings, lane.finished_at)
  WHERE l.batch_id = p_batch AND l.part = p_part AND l.slice = p_slice;
  RETURN lane;
END
$$;


ALTER FUNCTION tokenctl.import_apply_v1(p_batch text, p_part integer, p_slice integer, p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: import_begin_v1(text, jsonb); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_begin_v1(p_batch text, p_asked jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
    AS $$
BEGIN
  PERFORM tokenctl.import_own(p_batch);
  PERFORM tokenctl.batch_begin(p_batch, jsonb_build_object('asked', p_asked));
  PERFORM tokenctl.import_reopen(p_batch, false);
END
$$;


ALTER FUNCTION tokenctl.import_begin_v1(p_batch text, p_asked jsonb) OWNER TO tokenctl_owner;

--
-- Name: import_batches; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.import_batches (
    batch_id text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL COLLATE pg_catalog."C",
    state text DEFAULT 'staging'::text NOT NULL COLLATE pg_catalog."C",
    file_name text,
    file_sha256 text COLLATE pg_catalog."C",
    file_size bigint,
    options jsonb DEFAULT '{}'::jsonb NOT NULL,
    slices integer NOT NULL,
    reverses_batch text COLLATE pg_catalog."C",
    reason text COLLATE pg_catalog."C",
    operator text NOT NULL COLLATE pg_catalog."C",
    claimed_by text NOT NULL COLLATE pg_catalog."C",
    request_id text NOT NULL COLLATE pg_catalog."C",
    rows_read bigint,
    rejected bigint,
    duplicate bigint,
    applied bigint,
    applied_tokens bigint,
    replayed bigint,
    replayed_tokens bigint,
    conflicting bigint,
    refused bigint,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamp with time zone,
    reverses_operator text COLLATE pg_catalog."C",
    reverses_since timestamp with time zone,
    reverses_until timestamp with time zone,
    opened_as jsonb,
    CONSTRAINT batch_done_counted CHECK (((state = 'done'::text) = ((finished_at IS NOT NULL) AND (applied IS NOT NULL)))),
    CONSTRAINT batch_file_paired CHECK (((kind = 'import'::text) = (file_sha256 IS NOT NULL))),
    CONSTRAINT batch_id_form CHECK ((batch_id ~ '^[0-9a-f]{12}$'::text)),
    CONSTRAINT batch_kind_known CHECK ((kind = ANY (ARRAY['import'::text, 'reversal'::text]))),
    CONSTRAINT batch_opened_unfinished CHECK (((opened_as IS NULL) OR (state = 'applying'::text))),
    CONSTRAINT batch_operator_times CHECK ((num_nonnulls(reverses_operator, reverses_since, reverses_until) = ANY (ARRAY[0, 3]))),
    CONSTRAINT batch_reversal_paired CHECK ((num_nonnulls(reverses_batch, reverses_operator) = ((kind = 'reversal'::text))::integer)),
    CONSTRAINT batch_slices_range CHECK ((slices >= 1)),
    CONSTRAINT batch_state_known CHECK ((state = ANY (ARRAY['staging'::text, 'applying'::text, 'done'::text])))
);


ALTER TABLE tokenctl.import_batches OWNER TO tokenctl_owner;

--
-- Name: import_close_v1(text, bigint, bigint, bigint); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_close_v1(p_batch text, p_rows_read bigint, p_rejected bigint, p_duplicate bigint) RETURNS tokenctl.import_batches
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
    AS $$
DECLARE
  batch tokenctl.import_batches := tokenctl.import_own(p_batch);
BEGIN
  PERFORM tokenctl.staging_drop(p_batch);
  IF batch.state = 'staging' THEN
    DELETE FROM tokenctl.import_batches b WHERE b.batch_id = p_batch;
    RETURN batch;
  END IF;
  IF p_rejected IS NULL OR EXISTS (SELECT FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch AND l.state = 'pending') THEN
    UPDATE tokenctl.import_batches b SET opened_as = NULL WHERE b.batch_id = p_batch;
    RETURN batch;
  END IF;
  UPDATE tokenctl.import_batches b
  SET state = 'done', opened_as = NULL, finished_at = clock_timestamp(), rows_read = coalesce(p_rows_read, b.rows_read),
      rejected = p_rejected, duplicate = p_duplicate, applied = l.applied, applied_tokens = l.applied_tokens,
      replayed = l.replayed, replayed_tokens = l.replayed_tokens, conflicting = l.conflicting, refused = l.refused
  FROM (SELECT coalesce(sum(i.applied), 0) AS applied, coalesce(sum(i.applied_tokens), 0) AS applied_tokens,
               coalesce(sum(i.replayed), 0) AS replayed, coalesce(sum(i.replayed_tokens), 0) AS replayed_tokens,
               coalesce(sum(i.conflicting), 0) AS conflicting, coalesce(sum(i.refused), 0) AS refused
        FROM tokenctl.import_lanes i WHERE i.batch_id = p_batch) l
  WHERE b.batch_id = p_batch
  RETURNING * INTO batch;
  RETURN batch;
END
$$;


ALTER FUNCTION tokenctl.import_close_v1(p_batch text, p_rows_read bigint, p_rejected bigint, p_duplicate bigint) OWNER TO tokenctl_owner;

--
-- Name: import_cut(tokenctl.import_batches, integer, bigint); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_cut(batch tokenctl.import_batches, p_part integer, p_rows bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
BEGIN
  IF EXISTS (SELECT FROM tokenctl.import_lanes l WHERE l.batch_id = batch.batch_id AND l.part = p_part AND l.from_user IS NOT NULL) THEN
    UPDATE tokenctl.import_lanes l SET staged = c.staged, staged_tokens = c.tokens, staged_users = c.users, staged_lines = c.lines
    FROM tokenctl.import_slices(batch.batch_id, p_part) c
    WHERE l.batch_id = batch.batch_id AND l.part = p_part AND l.slice = c.slice AND l.state = 'pending';
    RETURN;
  END IF;
  -- Lanes that were made before slices had a first user: what they posted is judged again.
  DELETE FROM tokenctl.import_lanes l WHERE l.batch_id = batch.batch_id AND l.part = p_part;
  EXECUTE format($sql$
    INSERT INTO tokenctl.import_lanes (batch_id, part, slice, from_user, staged, staged_tokens, staged_users, staged_lines)
    SELECT $1, $2, s.slice, CASE s.slice WHEN 0 THEN '' ELSE min(s.user_id) END, sum(s.n), sum(s.tokens), count(*), bit_xor(s.lines)
    FROM (SELECT u.*, (tokenctl.sum_tokens(u.n) OVER (ORDER BY u.user_id ROWS UNBOUNDED PRECEDING) - u.n) * $3 / $4 AS slice
          FROM %s u WHERE u.part = $2) s
    GROUP BY s.slice $sql$, tokenctl.staging_sums(batch.batch_id))
  USING batch.batch_id, p_part, batch.slices, p_rows;
END
$_$;


ALTER FUNCTION tokenctl.import_cut(batch tokenctl.import_batches, p_part integer, p_rows bigint) OWNER TO tokenctl_owner;

--
-- Name: import_demand_lock(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_demand_lock(p_batch text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  v_key bigint := hashtextextended('tokenctl import ' || p_batch, 0);
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.usename = session_user
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.classid::bigint = ((v_key >> 32) & 4294967295) AND l.objid::bigint = (v_key & 4294967295))
  THEN
    RAISE EXCEPTION '% does not hold the lock of batch %', session_user, p_batch USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'batch_lost';
  END IF;
END
$$;


ALTER FUNCTION tokenctl.import_demand_lock(p_batch text) OWNER TO tokenctl_owner;

--
-- Name: import_findings_v1(text, integer, boolean); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_findings_v1(p_batch text, p_part integer, p_known_only boolean) RETURNS TABLE(line bigint, problem text, user_id text, idempotency_key text, other text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
  batch  tokenctl.import_batches := tokenctl.import_own(p_batch);
  v_told bigint[];
BEGIN
  SELECT coalesce(array_agg((f ->> 'line')::bigint), '{}') INTO v_told
  FROM tokenctl.import_lanes l, jsonb_array_elements(l.findings) AS f WHERE l.batch_id = p_batch AND l.part = p_part;
  RETURN QUERY EXECUTE format($sql$
    SELECT s.line, 'conflict', s.user_id, s.idempotency_key, t.user_id || ':' || t.seq
    FROM %1$s s JOIN tokenctl.%2$I t USING (user_id, idempotency_key)
    WHERE (s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq)
      IS DISTINCT FROM (t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)
      AND s.line <> ALL ($3)
    UNION ALL
    SELECT s.line, 'reversed', s.user_id, s.idempotency_key, t.user_id || ':' || t.seq
    FROM %1$s s JOIN tokenctl.%2$I t USING (user_id, idempotency_key)
    WHERE (s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq)
      IS NOT DISTINCT FROM (t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)
      AND t.batch_id IS DISTINCT FROM $2 AND %4$s AND s.line <> ALL ($3)
    UNION ALL
    SELECT s.line, 'repeated', s.user_id, s.idempotency_key, k.first_line::text
    FROM %1$s s JOIN (
      SELECT user_id, idempotency_key, min(line) AS first_line FROM %1$s GROUP BY 1, 2
      HAVING count(*) > 1 AND count(DISTINCT (kind, amount, reason, ticket)) > 1) k USING (user_id, idempotency_key)
    UNION ALL
    SELECT s.line, 'unknown_user', s.user_id, s.idempotency_key, NULL
    FROM %1$s s WHERE $1 AND NOT EXISTS (SELECT FROM tokenctl.%3$I a WHERE a.user_id = s.user_id)
    UNION ALL
    SELECT s.line, 'refused', s.user_id, s.idempotency_key, NULL
    FROM (
      SELECT s.line, s.user_id, s.idempotency_key, coalesce(a.balance, 0) + sum(s.amount) OVER (PARTITION BY s.user_id) AS balance
      FROM %1$s s LEFT JOIN tokenctl.%3$I a USING (user_id)
      WHERE $4 AND NOT EXISTS (SELECT FROM tokenctl.%2$I t WHERE t.user_id = s.user_id AND t.idempotency_key = s.idempotency_key)
        AND (s.user_id, s.idempotency_key) NOT IN (SELECT user_id, idempotency_key FROM %1$s GROUP BY 1, 2 HAVING count(*) > 1)) s
    WHERE s.balance > 9007199254740991 AND s.line <> ALL ($3)
    $sql$, tokenctl.staging_part(p_batch, p_part), 'token_transactions_' || p_part, 'token_accounts_' || p_part, tokenctl.taken_back(p_part))
  USING p_known_only, p_batch, v_told, batch.kind = 'import';
END
$_$;


ALTER FUNCTION tokenctl.import_findings_v1(p_batch text, p_part integer, p_known_only boolean) OWNER TO tokenctl_owner;

--
-- Name: import_lock_v1(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_lock_v1(p_batch text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN pg_try_advisory_xact_lock(hashtextextended('tokenctl import ' || p_batch, 0));
END
$$;


ALTER FUNCTION tokenctl.import_lock_v1(p_batch text) OWNER TO tokenctl_owner;

--
-- Name: import_open_v1(text, text, text, bigint, jsonb, integer, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_open_v1(p_batch text, p_file_name text, p_sha256 text, p_size bigint, p_options jsonb, p_slices integer, p_request_id text, p_claimed_by text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
    AS $_$
DECLARE
  v_state text;
BEGIN
  IF NOT pg_has_role(session_user, 'tokenctl_batch', 'MEMBER') THEN
    PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'import', 'not_allowed', p_batch, jsonb_build_object('file', p_file_name));
    RETURN 'not_allowed';
  END IF;
  SELECT CASE WHEN tokenctl.batch_is_reversed(p_batch) THEN 'reversed' ELSE b.state END
    INTO v_state FROM tokenctl.import_batches b WHERE b.batch_id = p_batch;
  IF v_state IN ('done', 'reversed') THEN
    IF v_state = 'reversed' THEN
      PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'import', 'replay_reversed', p_batch, jsonb_build_object('file', p_file_name));
    END IF;
    RETURN v_state;
  END IF;
  PERFORM tokenctl.import_demand_lock(p_batch);
  PERFORM tokenctl.import_reap();
  -- One that was given up before it began is begun anew, by its new name.
  DELETE FROM tokenctl.import_batches b
  WHERE b.batch_id = p_batch AND b.state = 'staging' AND b.file_sha256 = p_sha256 AND b.options = p_options;
  -- The slices of a batch that was cut off stay as they were, so that its finished
  -- ones still mean the same users.
  INSERT INTO tokenctl.import_batches AS b (batch_id, kind, file_name, file_sha256, file_size, options, slices, operator, claimed_by, request_id)
  VALUES (p_batch, 'import', p_file_name, p_sha256, p_size, p_options, p_slices, session_user, p_claimed_by, p_request_id)
  ON CONFLICT (batch_id) DO UPDATE SET opened_as = tokenctl.opened_as(excluded)
  WHERE b.file_sha256 = excluded.file_sha256 AND b.options - 'asked' = excluded.options;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'batch % is other work', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  -- Keys of the ledger's own are refused as in tokenctl.demand_free_key: `;` follows `:`, so between
  -- the two lies what begins so. Comparisons, because they are three times as quick here as
  -- starts_with and a list, and nested, because the first one settles most keys: the server is what a COPY waits for.
  PERFORM tokenctl.staging_create(p_batch, $check$amount > 0 AND line >> 40 = 0 AND (kind = 'bonus' OR kind = 'purchase')
    AND (idempotency_key < 'generation:' OR idempotency_key >= 'generation;'
      AND (idempotency_key < 'reverse:' OR idempotency_key >= 'reverse;'))$check$, p_options ->> 'campaign');
  EXECUTE format('GRANT INSERT (line, user_id, amount, kind, reason, note, ticket, idempotency_key) ON %s TO %I',
    tokenctl.staging_table(p_batch), session_user);
  RETURN CASE v_state WHEN 'applying' THEN 'resume' ELSE 'open' END;
END
$_$;


ALTER FUNCTION tokenctl.import_open_v1(p_batch text, p_file_name text, p_sha256 text, p_size bigint, p_options jsonb, p_slices integer, p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: import_own(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_own(p_batch text) RETURNS tokenctl.import_batches
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  batch tokenctl.import_batches;
BEGIN
  SELECT * INTO batch FROM tokenctl.import_batches b
  WHERE b.batch_id = p_batch AND coalesce(b.opened_as ->> 'operator', b.operator) = session_user AND b.state <> 'done';
  IF NOT FOUND THEN
    RAISE EXCEPTION 'batch % is not open for %', p_batch, session_user USING ERRCODE = 'insufficient_privilege', CONSTRAINT = 'batch_lost';
  END IF;
  batch.request_id := coalesce(batch.opened_as ->> 'request_id', batch.request_id);
  RETURN batch;
END
$$;


ALTER FUNCTION tokenctl.import_own(p_batch text) OWNER TO tokenctl_owner;

--
-- Name: import_plan_v1(text, integer, boolean, bigint[]); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_plan_v1(p_batch text, p_part integer, p_known_only boolean, p_drop bigint[]) RETURNS TABLE(staged bigint, tokens bigint, users bigint, new_users bigint, duplicate bigint, findings bigint, replayed bigint, replayed_tokens bigint, own bigint, own_tokens bigint, largest_user text, largest_tokens bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET work_mem TO '64MB'
    SET default_statistics_target TO '1'
    SET random_page_cost TO '1'
    AS $_$
#variable_conflict use_column
DECLARE
  batch      tokenctl.import_batches := tokenctl.import_own(p_batch);
  v_table    text := tokenctl.staging_part(p_batch, p_part);
  v_entries  text := format('tokenctl.%I', 'token_transactions_' || p_part);
  v_same     text := '(s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq) IS NOT DISTINCT FROM '
                     '(t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)';
  sums       record;
  v_hash     text := 'hashtextextended(idempotency_key, hashtextextended(user_id, 0))';
  v_suspect  boolean;
  v_repeated boolean := false;
  v_reasons  text[];
  v_bad      boolean;
  v_known    text;
  v_matches  bigint := 0;
  v_other    bigint;
BEGIN
  duplicate := 0;
  findings := 0;
  IF cardinality(p_drop) > 0 THEN
    EXECUTE format('DELETE FROM %s s WHERE s.line = ANY ($1)', v_table) USING p_drop;
  END IF;
  -- 1.5 ms, for which the smaller side of the join with the ledger is the one that is hashed.
  EXECUTE format('ANALYZE %s (user_id, idempotency_key)', v_table);
  -- A file has a few reasons, most of which stand in its first rows: only when the sums find others are all sought.
  EXECUTE format('SELECT array_agg(DISTINCT r.reason) FROM (SELECT reason FROM %s LIMIT 500) r', v_table) INTO v_reasons;
  sums := tokenctl.import_sum(p_batch, p_part, v_reasons);
  v_bad := EXISTS (SELECT FROM unnest(v_reasons) AS r WHERE r !~ '^[a-z][a-z0-9_-]*$');
  IF sums.other_reasons THEN  -- OFFSET keeps the pattern away from the single rows
    EXECUTE format('SELECT $1 OR EXISTS (SELECT FROM (SELECT reason FROM %s GROUP BY reason OFFSET 0) r WHERE r.reason !~ %L)',
      v_table, '^[a-z][a-z0-9_-]*$') INTO v_bad USING v_bad;
  END IF;
  IF v_bad THEN
    RAISE EXCEPTION 'a reason has not its form' USING ERRCODE = 'check_violation', CONSTRAINT = 'reason_form';
  END IF;
  -- Cheap looks for what is rare; the queries that say more run only after them. First whether any key stands
  -- twice, here or with those of the ledger: to sort whole numbers is quickest. Two keys of one hash are a needless look
  -- at more, and so is this one where the batch's own entries are in the ledger, or where that has many more.
  v_suspect := batch.state = 'applying' OR pg_relation_size(v_entries) > 16 * pg_relation_size(v_table);
  IF NOT v_suspect THEN
    EXECUTE format('SELECT count(*) > count(DISTINCT h) FROM (SELECT h FROM (SELECT %1$s AS h FROM %2$s UNION ALL SELECT %1$s FROM %3$s) k ORDER BY h) k',
      v_hash, v_table, v_entries) INTO v_suspect;
  END IF;
  v_known := format($sql$
    SELECT count(*) FILTER (WHERE %3$s AND t.batch_id IS DISTINCT FROM $1),
      coalesce(sum(s.amount) FILTER (WHERE %3$s AND t.batch_id IS DISTINCT FROM $1), 0),
      count(*) FILTER (WHERE %3$s AND t.batch_id = $1), coalesce(sum(s.amount) FILTER (WHERE %3$s AND t.batch_id = $1), 0),
      count(*) FILTER (WHERE NOT (%3$s) OR t.batch_id IS DISTINCT FROM $1 AND %4$s)
    FROM %1$s s JOIN %2$s t USING (user_id, idempotency_key) $sql$, v_table, v_entries, v_same, tokenctl.taken_back(p_part));
  IF v_suspect THEN
    EXECUTE format('SELECT count(DISTINCT %s) < $1 FROM %s', v_hash, v_table) INTO v_repeated USING sums.staged;
    EXECUTE format('SELECT count(*) FROM %s s JOIN %s t USING (user_id, idempotency_key)', v_table, v_entries) INTO v_matches;
  END IF;
  IF v_matches > 0 THEN
    EXECUTE v_known INTO replayed, replayed_tokens, own, own_tokens, v_other USING p_batch;
  ELSE
    replayed := 0; replayed_tokens := 0; own := 0; own_tokens := 0; v_other := 0;
  END IF;
  IF p_drop IS NULL AND (v_repeated OR sums.too_large AND batch.kind = 'import' OR v_other > 0 OR p_known_only) THEN
    EXECUTE format($sql$
      DELETE FROM %1$s s USING (
        SELECT user_id, idempotency_key, min(line) AS first_line FROM %1$s GROUP BY 1, 2
        HAVING count(*) > 1 AND count(DISTINCT (kind, amount, reason, ticket)) = 1) k
      WHERE s.user_id = k.user_id AND s.idempotency_key = k.idempotency_key AND s.line > k.first_line $sql$, v_table);
    GET DIAGNOSTICS duplicate = ROW_COUNT;
    SELECT count(DISTINCT f.line) INTO findings FROM tokenctl.import_findings_v1(p_batch, p_part, p_known_only) f;
    IF duplicate > 0 THEN  -- what was taken out is not counted
      EXECUTE v_known INTO replayed, replayed_tokens, own, own_tokens, v_other USING p_batch;
      sums := tokenctl.import_sum(p_batch, p_part, v_reasons);
    END IF;
  END IF;
  staged := sums.staged;
  tokens := sums.tokens;
  users := sums.users;
  new_users := sums.new_users;
  largest_user := sums.largest_user;
  largest_tokens := sums.largest_tokens;
  PERFORM tokenctl.import_cut(batch, p_part, staged);
  -- Past some ten slices an index beats reading the partition for each of them.
  IF batch.slices > 10 THEN
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON %s (user_id)', 'slices_' || p_batch || '_' || p_part, v_table);
  END IF;
  RETURN NEXT;
END
$_$;


ALTER FUNCTION tokenctl.import_plan_v1(p_batch text, p_part integer, p_known_only boolean, p_drop bigint[]) OWNER TO tokenctl_owner;

--
-- Name: import_reap(); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_reap() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  dead record;
BEGIN
  FOR dead IN SELECT b.batch_id FROM tokenctl.import_batches b WHERE b.state <> 'done' ORDER BY b.batch_id LOOP
    CONTINUE WHEN NOT pg_try_advisory_xact_lock(hashtextextended('tokenctl import ' || dead.batch_id, 0));
    PERFORM tokenctl.staging_drop(dead.batch_id);
    DELETE FROM tokenctl.import_batches b WHERE b.batch_id = dead.batch_id AND b.state = 'staging';
  END LOOP;
END
$$;


ALTER FUNCTION tokenctl.import_reap() OWNER TO tokenctl_owner;

--
-- Name: import_reopen(text, boolean); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_reopen(p_batch text, p_refused boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  UPDATE tokenctl.import_lanes l
  SET state = 'pending', staged = c.staged, staged_tokens = c.tokens, staged_users = c.users, staged_lines = c.lines, finished_at = NULL
  FROM (SELECT DISTINCT d.part FROM tokenctl.import_lanes d WHERE d.batch_id = p_batch AND d.state = 'done') d,
    tokenctl.import_slices(p_batch, d.part) c
  WHERE l.batch_id = p_batch AND l.part = d.part AND l.slice = c.slice AND l.state = 'done'
    AND ((l.staged, l.staged_lines) IS DISTINCT FROM (c.staged, c.lines) OR p_refused AND l.refused > 0);
END
$$;


ALTER FUNCTION tokenctl.import_reopen(p_batch text, p_refused boolean) OWNER TO tokenctl_owner;

--
-- Name: import_seal_v1(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_seal_v1(p_batch text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
    AS $$
BEGIN
  PERFORM tokenctl.import_own(p_batch);
  EXECUTE format('REVOKE INSERT (line, user_id, amount, kind, reason, note, ticket, idempotency_key) ON %s FROM %I',
    tokenctl.staging_table(p_batch), session_user);
END
$$;


ALTER FUNCTION tokenctl.import_seal_v1(p_batch text) OWNER TO tokenctl_owner;

--
-- Name: import_slices(text, integer); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_slices(p_batch text, p_part integer) RETURNS TABLE(slice integer, staged bigint, tokens bigint, users bigint, lines bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
BEGIN
  RETURN QUERY EXECUTE format($sql$
    SELECT b.slice, coalesce(sum(u.n), 0)::bigint, coalesce(sum(u.tokens), 0)::bigint, count(u.user_id), coalesce(bit_xor(u.lines), 0)
    FROM (SELECT l.slice, l.from_user, lead(l.from_user) OVER (ORDER BY l.from_user) AS until
          FROM tokenctl.import_lanes l WHERE l.batch_id = $1 AND l.part = $2 AND l.from_user IS NOT NULL) b
    LEFT JOIN %s u ON u.part = $2 AND u.user_id >= b.from_user AND (b.until IS NULL OR u.user_id < b.until)
    GROUP BY b.slice $sql$, tokenctl.staging_sums(p_batch))
  USING p_batch, p_part;
END
$_$;


ALTER FUNCTION tokenctl.import_slices(p_batch text, p_part integer) OWNER TO tokenctl_owner;

--
-- Name: import_sum(text, integer, text[]); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.import_sum(p_batch text, p_part integer, p_reasons text[], OUT staged bigint, OUT tokens bigint, OUT users bigint, OUT new_users bigint, OUT largest_user text, OUT largest_tokens bigint, OUT too_large boolean, OUT other_reasons boolean) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
BEGIN
  EXECUTE format('DELETE FROM %s WHERE part = $1', tokenctl.staging_sums(p_batch)) USING p_part;
  EXECUTE format($sql$
    WITH u AS MATERIALIZED (
      SELECT user_id, tokenctl.sum_tokens(amount) AS tokens, count(*) AS n, bit_xor(hashtextextended(user_id, coalesce(reverses_seq, line))) AS lines,
        bool_or(reason <> ALL ($2)) AS others
      FROM %2$s GROUP BY 1 ORDER BY 1),
    kept AS (INSERT INTO %1$s (part, user_id, tokens, n, lines) SELECT $1, user_id, tokens, n, lines FROM u)
    SELECT coalesce(sum(u.n), 0), coalesce(sum(u.tokens), 0), count(*), count(*) FILTER (WHERE a.user_id IS NULL),
      (array_agg(u.user_id ORDER BY abs(u.tokens) DESC, u.user_id))[1], max(abs(u.tokens)),
      coalesce(bool_or(u.tokens > 9007199254740991 - coalesce(a.balance, 0)), false), coalesce(bool_or(u.others), false)
    FROM u LEFT JOIN %3$s a USING (user_id) $sql$,
    tokenctl.staging_sums(p_batch), tokenctl.staging_part(p_batch, p_part), format('tokenctl.%I', 'token_accounts_' || p_part))
  INTO staged, tokens, users, new_users, largest_user, largest_tokens, too_large, other_reasons USING p_part, p_reasons;
END
$_$;


ALTER FUNCTION tokenctl.import_sum(p_batch text, p_part integer, p_reasons text[], OUT staged bigint, OUT tokens bigint, OUT users bigint, OUT new_users bigint, OUT largest_user text, OUT largest_tokens bigint, OUT too_large boolean, OUT other_reasons boolean) OWNER TO tokenctl_owner;

--
-- Name: may_generate(); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.may_generate() RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN pg_has_role(session_user, 'tokenctl_support', 'MEMBER') OR pg_has_role(session_user, 'tokenctl_batch', 'MEMBER');
END
$$;


ALTER FUNCTION tokenctl.may_generate() OWNER TO tokenctl_owner;

--
-- Name: may_post(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.may_post(p_kind text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN CASE p_kind
    WHEN 'bonus' THEN pg_has_role(session_user, 'tokenctl_support', 'MEMBER') OR pg_has_role(session_user, 'tokenctl_batch', 'MEMBER')
    WHEN 'purchase' THEN pg_has_role(session_user, 'tokenctl_batch', 'MEMBER')
    WHEN 'adjustment' THEN pg_has_role(session_user, 'tokenctl_admin', 'MEMBER')
    ELSE false
  END;
END
$$;


ALTER FUNCTION tokenctl.may_post(p_kind text) OWNER TO tokenctl_owner;

--
-- Name: opened_as(tokenctl.import_batches); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.opened_as(batch tokenctl.import_batches) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN jsonb_build_object('operator', batch.operator, 'claimed_by', batch.claimed_by, 'request_id', batch.request_id);
END
$$;


ALTER FUNCTION tokenctl.opened_as(batch tokenctl.import_batches) OWNER TO tokenctl_owner;

--
-- Name: partition_count(); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.partition_count() RETURNS integer
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN (SELECT count(*) FROM pg_catalog.pg_inherits WHERE inhparent = 'tokenctl.token_accounts'::pg_catalog.regclass);
END
$$;


ALTER FUNCTION tokenctl.partition_count() OWNER TO tokenctl_owner;

--
-- Name: post_judged(tokenctl.import_lanes, text, boolean, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.post_judged(lane tokenctl.import_lanes, p_source text, p_reversal boolean, p_request_id text, p_claimed_by text) RETURNS tokenctl.import_lanes
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
  v_lines bigint[];
  v_users bigint;
  v_own   bigint;
  v_good  text;
BEGIN
  -- A row's verdict: `replayed`, `conflict`, `reversed` (the plan says what that is), `refused`, `too_large`
  -- (of a reversal; an import has no other refusal), `own` for one that this batch posted before it was
  -- cut off, or NULL for a row that can be posted. Inside the file the first row of a key is the one that counts.
  EXECUTE format($sql$
    SELECT coalesce(array_agg(line) FILTER (WHERE verdict IS NULL), '{}'), count(DISTINCT user_id) FILTER (WHERE verdict IS NULL),
      count(*) FILTER (WHERE verdict = 'own'), coalesce(sum(amount) FILTER (WHERE verdict IS NULL OR verdict = 'own'), 0),
      count(*) FILTER (WHERE verdict = 'replayed'), coalesce(sum(amount) FILTER (WHERE verdict = 'replayed'), 0),
      count(*) FILTER (WHERE verdict = 'conflict'), count(*) FILTER (WHERE verdict IN ('reversed', 'refused', 'too_large')),
      jsonb_agg(jsonb_build_object('line', line, 'user_id', user_id, 'problem', verdict, 'seq', coalesce(other_seq, reverses_seq)) ORDER BY line)
        FILTER (WHERE verdict NOT IN ('own', 'replayed'))
    FROM (
      SELECT user_id, line, amount, reverses_seq, other_seq, CASE
        WHEN known IS NOT NULL THEN known
        WHEN max(running + held) OVER (PARTITION BY user_id, known) > 9007199254740991 THEN CASE WHEN $1 THEN 'too_large' ELSE 'refused' END
        WHEN $1 AND amount < 0 AND running < 0 THEN 'refused'
        END AS verdict
      FROM (
        SELECT k.*, coalesce(a.held, 0) AS held,
          coalesce(a.balance - a.held, 0) + sum(k.amount) OVER (PARTITION BY k.user_id, k.known ORDER BY k.line) AS running
        FROM (
          SELECT s.user_id, s.line, s.amount, s.reverses_seq, t.seq AS other_seq, CASE
            WHEN r.seq IS NOT NULL THEN CASE r.batch_id WHEN $2 THEN 'own' ELSE 'replayed' END
            WHEN s.left_out IS NOT NULL THEN s.left_out
            WHEN t.seq IS NULL AND row_number() OVER (PARTITION BY s.user_id, s.idempotency_key ORDER BY s.line) = 1 THEN NULL
            WHEN t.seq IS NOT NULL AND (s.kind, s.amount, s.reason, s.ticket, s.campaign, s.reverses_seq)
              IS NOT DISTINCT FROM (t.kind, t.amount, t.reason, t.ticket, t.campaign, t.reverses_seq)
              THEN CASE WHEN t.batch_id = $2 THEN 'own' WHEN %5$s THEN 'reversed' ELSE 'replayed' END
            ELSE 'conflict' END AS known
          FROM %1$s s
          LEFT JOIN %2$s t ON t.user_id = s.user_id AND t.idempotency_key = s.idempotency_key
          LEFT JOIN %2$s r ON r.user_id = s.user_id AND r.reverses_seq = s.reverses_seq) k
        LEFT JOIN (SELECT a.user_id, a.balance, %4$s AS held FROM %3$s a) a USING (user_id)) s) judged $sql$,
    p_source, format('tokenctl.%I', 'token_transactions_' || lane.part), format('tokenctl.%I', 'token_accounts_' || lane.part),
    tokenctl.held_by_a(lane.part), tokenctl.taken_back(lane.part))
  INTO v_lines, v_users, v_own, lane.applied_tokens, lane.replayed, lane.replayed_tokens, lane.conflicting, lane.refused, lane.findings
  USING p_reversal, lane.batch_id;
  IF v_own < lane.applied THEN
    RAISE EXCEPTION 'rows that batch % posted before are left out now', lane.batch_id
      USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'posted_before';
  END IF;
  v_good := format('(SELECT * FROM %s s WHERE line = ANY (%L::bigint[]))', p_source, v_lines);
  lane.applied := v_own + tokenctl.post_set(lane.part, v_good,
    format('SELECT user_id, tokenctl.sum_tokens(amount) AS tokens, count(*) AS n FROM %s s GROUP BY user_id ORDER BY user_id', v_good), 'true', v_users, p_reversal, lane.batch_id, p_request_id, p_claimed_by);
  RETURN lane;
END
$_$;


ALTER FUNCTION tokenctl.post_judged(lane tokenctl.import_lanes, p_source text, p_reversal boolean, p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: post_one(text, text, bigint, text, text, text, text, text, bigint, text, text, boolean); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.post_one(p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text, p_key text, p_reverses_seq bigint, p_request_id text, p_claimed_by text, p_new_user boolean) RETURNS tokenctl.receipt_v1
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
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
$_$;


ALTER FUNCTION tokenctl.post_one(p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text, p_key text, p_reverses_seq bigint, p_request_id text, p_claimed_by text, p_new_user boolean) OWNER TO tokenctl_owner;

--
-- Name: post_set(integer, text, text, text, bigint, boolean, text, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.post_set(p_part integer, p_source text, p_sums text, p_mine text, p_users bigint, p_reversal boolean, p_batch text, p_request_id text, p_claimed_by text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
  v_accounts text := format('tokenctl.%I', 'token_accounts_' || p_part);
  v_count    bigint;
  v_new      bigint := 0;
BEGIN
  IF p_reversal THEN
    -- Locks first, in a statement of its own: what is held is read by the next one, which
    -- then sees every hold that was made before the lock was ours.
    EXECUTE format('SELECT count(*) FROM (SELECT FROM %s WHERE user_id IN (SELECT user_id FROM (%s) u) ORDER BY user_id FOR NO KEY UPDATE) locked',
      v_accounts, p_sums);
  END IF;
  EXECUTE format($sql$
    UPDATE %s a SET balance = a.balance + u.tokens, last_seq = a.last_seq + u.n, updated_at = greatest(clock_timestamp(), a.updated_at)
    FROM (%s) u WHERE a.user_id = u.user_id AND (u.tokens >= 0%s) $sql$,
    v_accounts, p_sums, CASE WHEN p_reversal THEN format(' OR a.balance - %s + u.tokens >= 0', tokenctl.held_by_a(p_part)) END);
  GET DIAGNOSTICS v_count = ROW_COUNT;
  IF NOT p_reversal AND v_count < p_users THEN
    EXECUTE format('INSERT INTO %1$s (user_id, balance, last_seq) SELECT * FROM (%2$s) u'
      ' WHERE NOT EXISTS (SELECT FROM %1$s a WHERE a.user_id = u.user_id)', v_accounts, p_sums);
    GET DIAGNOSTICS v_new = ROW_COUNT;
  END IF;
  IF v_count + v_new <> p_users THEN
    RAISE EXCEPTION 'an account lacks tokens' USING ERRCODE = 'check_violation', CONSTRAINT = 'available_tokens';
  END IF;
  EXECUTE format($sql$
    INSERT INTO tokenctl.%3$I (user_id, seq, amount, balance_after, created_at, reverses_seq, kind, reason, ticket, campaign,
      operator, claimed_by, request_id, idempotency_key, batch_id, note)
    SELECT s.user_id, u.seq + row_number() OVER run, s.amount, u.balance + tokenctl.sum_tokens(s.amount) OVER run, u.updated_at,
      s.reverses_seq, s.kind, s.reason, s.ticket, s.campaign, $4, $1, $2, s.idempotency_key, $3, s.note
    FROM %2$s s JOIN (
      SELECT a.user_id, a.updated_at, row_number() OVER users << 40 AS place,
        a.last_seq - tokenctl.sum_tokens(n) OVER users AS seq, a.balance - tokenctl.sum_tokens(tokens) OVER users AS balance
      FROM (SELECT user_id, balance, last_seq, updated_at FROM %1$s WHERE %4$s) a JOIN (%5$s) u USING (user_id)
      WINDOW users AS (ORDER BY a.user_id ROWS UNBOUNDED PRECEDING)) u USING (user_id)
    WINDOW run AS (ORDER BY u.place + s.line ROWS UNBOUNDED PRECEDING) $sql$,
    v_accounts, p_source, 'token_transactions_' || p_part, p_mine, p_sums)
  USING p_claimed_by, p_request_id, p_batch, session_user::text;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END
$_$;


ALTER FUNCTION tokenctl.post_set(p_part integer, p_source text, p_sums text, p_mine text, p_users bigint, p_reversal boolean, p_batch text, p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: post_sorted(tokenctl.import_lanes, text, boolean, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.post_sorted(lane tokenctl.import_lanes, p_source text, p_reversal boolean, p_request_id text, p_claimed_by text) RETURNS tokenctl.import_lanes
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
  v_lock   text := format('SELECT count(*) FROM (SELECT FROM tokenctl.%I WHERE user_id IN (SELECT user_id FROM %s s) ORDER BY user_id FOR NO KEY UPDATE) locked',
    'token_accounts_' || lane.part, p_source);
  v_before bigint;
  v_after  bigint;
BEGIN
  EXECUTE v_lock INTO v_after;
  LOOP
    v_before := v_after;
    BEGIN
      RETURN tokenctl.post_judged(lane, p_source, p_reversal, p_request_id, p_claimed_by);
    EXCEPTION WHEN unique_violation OR check_violation OR numeric_value_out_of_range THEN
      EXECUTE v_lock INTO v_after;
      IF v_after = v_before THEN
        IF SQLSTATE = '23505' AND current_setting('transaction_isolation') <> 'read committed' THEN
          RAISE EXCEPTION 'somebody else''s account is not to be seen yet' USING ERRCODE = 'serialization_failure';
        END IF;
        RAISE;
      END IF;
    END;
  END LOOP;
END
$$;


ALTER FUNCTION tokenctl.post_sorted(lane tokenctl.import_lanes, p_source text, p_reversal boolean, p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: post_v1(text, text, bigint, text, text, text, text, text, text, text, boolean); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.post_v1(p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text, p_key text, p_request_id text, p_claimed_by text, p_new_user boolean) RETURNS tokenctl.receipt_v1
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
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


ALTER FUNCTION tokenctl.post_v1(p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text, p_key text, p_request_id text, p_claimed_by text, p_new_user boolean) OWNER TO tokenctl_owner;

--
-- Name: token_transactions; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.token_transactions (
    user_id text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    amount bigint NOT NULL,
    balance_after bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    reverses_seq bigint,
    kind text NOT NULL COLLATE pg_catalog."C",
    reason text NOT NULL COLLATE pg_catalog."C",
    ticket text COLLATE pg_catalog."C",
    campaign text COLLATE pg_catalog."C",
    operator text NOT NULL COLLATE pg_catalog."C",
    claimed_by text NOT NULL COLLATE pg_catalog."C",
    request_id text NOT NULL COLLATE pg_catalog."C",
    idempotency_key text NOT NULL COLLATE pg_catalog."C",
    batch_id text COLLATE pg_catalog."C",
    note text,
    CONSTRAINT amount_range CHECK (((amount <> 0) AND ((amount >= '-9007199254740991'::bigint) AND (amount <= '9007199254740991'::bigint)))),
    CONSTRAINT balance_after_range CHECK (((balance_after >= 0) AND (balance_after <= '9007199254740991'::bigint))),
    CONSTRAINT idempotency_key_length CHECK (((octet_length(idempotency_key) >= 1) AND (octet_length(idempotency_key) <= 128))),
    CONSTRAINT kind_known CHECK ((kind = ANY (ARRAY['bonus'::text, 'purchase'::text, 'generation'::text, 'adjustment'::text]))),
    CONSTRAINT note_length CHECK (((length(note) >= 1) AND (length(note) <= 500))),
    CONSTRAINT operator_named CHECK ((operator <> ''::text)),
    CONSTRAINT reason_length CHECK (((octet_length(reason) >= 1) AND (octet_length(reason) <= 32))),
    CONSTRAINT request_id_form CHECK (((octet_length(request_id) >= 1) AND (octet_length(request_id) <= 128))),
    CONSTRAINT reverses_earlier CHECK (((reverses_seq >= 1) AND (reverses_seq < seq))),
    CONSTRAINT seq_range CHECK ((seq >= 1)),
    CONSTRAINT ticket_length CHECK (((octet_length(ticket) >= 1) AND (octet_length(ticket) <= 64)))
)
PARTITION BY HASH (user_id);
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN user_id SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN seq SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN amount SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN balance_after SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN created_at SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN reverses_seq SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN kind SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN reason SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN ticket SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN campaign SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN operator SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN claimed_by SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN request_id SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN idempotency_key SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN batch_id SET STATISTICS 20;
ALTER TABLE ONLY tokenctl.token_transactions ALTER COLUMN note SET STATISTICS 20;


ALTER TABLE tokenctl.token_transactions OWNER TO tokenctl_owner;

--
-- Name: receipt_of(tokenctl.token_transactions); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.receipt_of(p_entry tokenctl.token_transactions) RETURNS tokenctl.receipt_v1
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN (NULL, p_entry.user_id, p_entry.seq, p_entry.kind, p_entry.amount, p_entry.balance_after - p_entry.amount, p_entry.balance_after,
    tokenctl.held_tokens(p_entry.user_id), NULL, p_entry.reason, p_entry.note, p_entry.ticket, p_entry.campaign, p_entry.operator,
    p_entry.claimed_by, p_entry.request_id, p_entry.idempotency_key, p_entry.batch_id, p_entry.reverses_seq,
    tokenctl.effective_reversal(p_entry.user_id, p_entry.seq), p_entry.created_at)::tokenctl.receipt_v1;
END
$$;


ALTER FUNCTION tokenctl.receipt_of(p_entry tokenctl.token_transactions) OWNER TO tokenctl_owner;

--
-- Name: refuse_change(); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RAISE EXCEPTION '% on %.% is refused: the ledger is append only; corrections are reversals',
    TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;


ALTER FUNCTION tokenctl.refuse_change() OWNER TO tokenctl_owner;

--
-- Name: reversal_begin_v1(text, bigint); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.reversal_begin_v1(p_batch text, p_total bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
    AS $$
DECLARE
  batch tokenctl.import_batches := tokenctl.import_own(p_batch);
BEGIN
  IF batch.kind <> 'reversal' THEN
    RAISE EXCEPTION 'batch % is no reversal', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  -- A crash of the server empties the staging, and a client behind a pooler need not notice: of rows that are
  -- gone before they are planned there is no lane that would miss them.
  IF batch.state = 'staging' AND batch.rows_read IS DISTINCT FROM
    (SELECT coalesce(sum(l.staged), 0) FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch)
  THEN
    RAISE EXCEPTION 'the staged rows of batch % are gone', p_batch USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'staging_lost';
  END IF;
  PERFORM tokenctl.import_reopen(p_batch, true);
  PERFORM tokenctl.batch_begin(p_batch, jsonb_build_object('total', p_total));
  UPDATE tokenctl.import_batches b SET rows_read = (SELECT coalesce(sum(l.staged), 0) FROM tokenctl.import_lanes l WHERE l.batch_id = p_batch)
  WHERE b.batch_id = p_batch;
END
$$;


ALTER FUNCTION tokenctl.reversal_begin_v1(p_batch text, p_total bigint) OWNER TO tokenctl_owner;

--
-- Name: reversal_leave_out_v1(text, integer); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.reversal_leave_out_v1(p_batch text, p_part integer) RETURNS TABLE(user_id text, problem text, wanted bigint, available bigint, balance bigint, entries bigint, taken bigint, given bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
  batch   tokenctl.import_batches := tokenctl.import_own(p_batch);
  v_table text := tokenctl.staging_part(p_batch, p_part);
BEGIN
  IF batch.kind <> 'reversal' THEN
    RAISE EXCEPTION 'batch % is no reversal', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  EXECUTE format('UPDATE %s SET left_out = NULL WHERE left_out IS NOT NULL', v_table);
  RETURN QUERY EXECUTE format($sql$
    WITH wanted AS MATERIALIZED (
      SELECT s.user_id, s.line, s.amount FROM %1$s s
      WHERE NOT EXISTS (SELECT FROM %2$s r WHERE r.user_id = s.user_id AND r.reverses_seq = s.reverses_seq)),
    stuck AS MATERIALIZED (
      SELECT w.user_id, w.tokens, a.balance, a.balance - h.held AS available, CASE
        WHEN a.balance + w.given > 9007199254740991 THEN 'too_large'
        WHEN w.tokens > 0 AND a.balance - h.held < w.tokens THEN 'refused' END AS problem
      FROM (SELECT user_id, -sum(amount) AS tokens, coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS given FROM wanted GROUP BY user_id) w
      JOIN %3$s a USING (user_id) CROSS JOIN LATERAL (SELECT %4$s AS held OFFSET 0) h),
    out AS MATERIALIZED (
      SELECT * FROM (
        SELECT s.*, w.line, w.amount, s.available + sum(w.amount) OVER (PARTITION BY w.user_id ORDER BY w.line) AS running
        FROM stuck s JOIN wanted w USING (user_id) WHERE s.problem IS NOT NULL) judged
      WHERE problem <> 'refused' OR amount < 0 AND running < 0),
    marked AS (UPDATE %1$s s SET left_out = o.problem FROM out o WHERE s.user_id = o.user_id AND s.line = o.line)
    SELECT user_id::text, problem, tokens::bigint, greatest(available, 0), balance, count(*),
      coalesce(-sum(amount) FILTER (WHERE amount < 0), 0)::bigint, coalesce(sum(amount) FILTER (WHERE amount > 0), 0)::bigint
    FROM out GROUP BY user_id, problem, tokens, available, balance $sql$,
    v_table, format('tokenctl.%I', 'token_transactions_' || p_part), format('tokenctl.%I', 'token_accounts_' || p_part), tokenctl.held_by_a(p_part));
END
$_$;


ALTER FUNCTION tokenctl.reversal_leave_out_v1(p_batch text, p_part integer) OWNER TO tokenctl_owner;

--
-- Name: reversal_open_v1(text, text, text, timestamp with time zone, timestamp with time zone, text, text, text, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.reversal_open_v1(p_batch text, p_reverses text, p_operator text, p_since timestamp with time zone, p_until timestamp with time zone, p_reason text, p_note text, p_ticket text, p_request_id text, p_claimed_by text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
    AS $$
DECLARE
  v_state text;
BEGIN
  IF NOT pg_has_role(session_user, 'tokenctl_batch', 'MEMBER') THEN
    PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'reverse-many', 'not_allowed', coalesce(p_reverses, p_operator), '{}');
    RETURN 'not_allowed';
  END IF;
  IF p_reverses IS NOT NULL THEN
    SELECT b.state INTO v_state FROM tokenctl.import_batches b WHERE b.batch_id = p_reverses;
    IF v_state IS DISTINCT FROM 'done' THEN
      RETURN CASE WHEN v_state IS NULL THEN 'unknown_batch' ELSE 'not_finished' END;
    END IF;
  END IF;
  SELECT b.state INTO v_state FROM tokenctl.import_batches b WHERE b.batch_id = p_batch;
  IF v_state = 'done' THEN
    RETURN 'done';
  END IF;
  PERFORM tokenctl.import_demand_lock(p_batch);
  PERFORM tokenctl.import_reap();
  -- One that was given up before it began is begun anew: it has its own end, reason, note and ticket.
  DELETE FROM tokenctl.import_batches b
  WHERE b.batch_id = p_batch AND b.state = 'staging'
    AND (b.reverses_batch, b.reverses_operator, b.reverses_since) IS NOT DISTINCT FROM (p_reverses, p_operator, p_since);
  -- One that was cut off is finished with the reason and the end that it began with, so that
  -- what it posted is known as its own. Its slices are counted when its rows are there.
  INSERT INTO tokenctl.import_batches AS b (batch_id, kind, options, slices, reverses_batch, reverses_operator, reverses_since,
    reverses_until, reason, operator, claimed_by, request_id)
  VALUES (p_batch, 'reversal', jsonb_strip_nulls(jsonb_build_object('note', p_note, 'ticket', p_ticket, 'until', p_until)), 1,
    p_reverses, p_operator, p_since, CASE WHEN p_operator IS NOT NULL THEN least(p_until, clock_timestamp()) END,
    p_reason, session_user, p_claimed_by, p_request_id)
  ON CONFLICT (batch_id) DO UPDATE SET opened_as = tokenctl.opened_as(excluded)
  WHERE (b.reverses_batch, b.reverses_operator, b.reverses_since)
    IS NOT DISTINCT FROM (excluded.reverses_batch, excluded.reverses_operator, excluded.reverses_since);
  IF NOT FOUND THEN
    RAISE EXCEPTION 'batch % is other work', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  PERFORM tokenctl.staging_create(p_batch, 'amount <> 0 AND line >> 40 = 0 AND kind <> '''' AND idempotency_key <> '''' AND reverses_seq >= 1', NULL);
  RETURN CASE v_state WHEN 'applying' THEN 'resume' ELSE 'open' END;
END
$$;


ALTER FUNCTION tokenctl.reversal_open_v1(p_batch text, p_reverses text, p_operator text, p_since timestamp with time zone, p_until timestamp with time zone, p_reason text, p_note text, p_ticket text, p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: reversal_stage_v1(text, integer); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.reversal_stage_v1(p_batch text, p_part integer, OUT staged bigint, OUT chosen boolean, OUT given_back text) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET work_mem TO '64MB'
    AS $_$
DECLARE
  batch     tokenctl.import_batches := tokenctl.import_own(p_batch);
  v_table   text := tokenctl.staging_part(p_batch, p_part);
  v_entries text := format('tokenctl.%I', 'token_transactions_' || p_part);
  -- For a batch no time is compared: a clock that was set back must not leave entries out.
  v_chosen  text := CASE WHEN batch.reverses_batch IS NOT NULL THEN format('t.batch_id IS NOT DISTINCT FROM %L', batch.reverses_batch)
    ELSE tokenctl.done_by(batch.reverses_operator, batch.reverses_since, batch.reverses_until) END;
  v_line    text[];
BEGIN
  IF batch.kind <> 'reversal' THEN
    RAISE EXCEPTION 'batch % is no reversal', p_batch USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  WITH RECURSIVE line AS (
    SELECT b.batch_id FROM tokenctl.import_batches b
    WHERE b.reverses_batch = batch.reverses_batch OR b.reverses_operator = batch.reverses_operator
      AND b.reverses_since = batch.reverses_since AND (b.options ->> 'until')::timestamptz IS NOT DISTINCT FROM (batch.options ->> 'until')::timestamptz
    UNION
    SELECT b.batch_id FROM line l JOIN tokenctl.import_batches b ON b.reverses_batch = l.batch_id)
  SELECT array_agg(line.batch_id) INTO v_line FROM line WHERE line.batch_id <> p_batch;
  -- Asked a second time, when the answer was lost. What a plan summed up is of other rows then.
  EXECUTE format('DELETE FROM %s', v_table);
  EXECUTE format('DELETE FROM %s WHERE part = $1', tokenctl.staging_sums(p_batch)) USING p_part;
  EXECUTE format($sql$
    WITH RECURSIVE chosen AS MATERIALIZED (
      SELECT t.user_id, t.seq, t.amount, t.kind, t.batch_id, t.reverses_seq, r.seq IS NULL AND (t.reverses_seq IS NULL OR NOT $5) AS is_alone
      FROM %2$s t LEFT JOIN %2$s r ON r.user_id = t.user_id AND r.reverses_seq = t.seq AND r.batch_id IS DISTINCT FROM $4
      WHERE %3$s AND t.batch_id IS DISTINCT FROM $4),
    -- A batch has one link in a chain at most, an operator may have several: his are read from the first entry on.
    down AS (
      SELECT user_id, seq, reverses_seq FROM chosen WHERE NOT is_alone
      UNION
      SELECT t.user_id, t.seq, t.reverses_seq FROM down d JOIN %2$s t ON t.user_id = d.user_id AND t.seq = d.reverses_seq WHERE $5),
    up AS (
      SELECT t.user_id, t.seq AS bottom, 1 AS n, t.seq, t.amount, t.kind, t.batch_id, 1 AS remain, %3$s AS is_ours
      FROM down d JOIN %2$s t USING (user_id, seq) WHERE d.reverses_seq IS NULL OR NOT $5
      UNION ALL
      SELECT t.user_id, u.bottom, u.n + 1, t.seq, t.amount, t.kind, t.batch_id,
        CASE WHEN u.remain > 0 AND u.is_ours = (%3$s) THEN u.remain - 1 ELSE u.remain + 1 END,
        CASE WHEN u.remain > 0 AND u.is_ours = (%3$s) THEN NOT (%3$s) ELSE (%3$s) END
      FROM up u JOIN %2$s t ON t.user_id = u.user_id AND t.reverses_seq = u.seq AND t.batch_id IS DISTINCT FROM $4),
    standing AS MATERIALIZED (
      SELECT user_id, seq, amount, kind, NULL AS given_back FROM chosen WHERE is_alone
      UNION ALL
      SELECT user_id, seq, amount, kind, CASE WHEN batch_id = ANY ($6) THEN batch_id END
      FROM (SELECT DISTINCT ON (user_id, bottom) * FROM up ORDER BY user_id, bottom, n DESC) newest WHERE remain > 0 AND is_ours),
    staged AS (
      INSERT INTO %1$s (line, user_id, amount, kind, reason, note, ticket, idempotency_key, reverses_seq)
      SELECT row_number() OVER (ORDER BY t.user_id, t.amount, t.seq), t.user_id, -t.amount, t.kind, $1, $2, $3, 'reverse:' || t.seq, t.seq
      FROM standing t WHERE t.given_back IS NULL RETURNING 1)
    SELECT (SELECT count(*) FROM staged), (SELECT max(given_back) FROM standing) $sql$, v_table, v_entries, v_chosen)
  INTO staged, given_back
  USING batch.reason, batch.options ->> 'note', batch.options ->> 'ticket', p_batch, batch.reverses_operator IS NOT NULL, v_line;
  chosen := staged > 0;
  IF staged = 0 THEN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s t WHERE %s)', v_entries, v_chosen) INTO chosen;
  END IF;
END
$_$;


ALTER FUNCTION tokenctl.reversal_stage_v1(p_batch text, p_part integer, OUT staged bigint, OUT chosen boolean, OUT given_back text) OWNER TO tokenctl_owner;

--
-- Name: reversal_staged_v1(text, bigint, integer); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.reversal_staged_v1(p_batch text, p_rows bigint, p_slices integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
    AS $$
BEGIN
  PERFORM tokenctl.import_own(p_batch);
  UPDATE tokenctl.import_batches b SET rows_read = p_rows, slices = p_slices
  WHERE b.batch_id = p_batch AND b.kind = 'reversal' AND b.state = 'staging';
END
$$;


ALTER FUNCTION tokenctl.reversal_staged_v1(p_batch text, p_rows bigint, p_slices integer) OWNER TO tokenctl_owner;

--
-- Name: reversal_totals_v1(text, integer); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.reversal_totals_v1(p_batch text, p_part integer) RETURNS TABLE(kind text, entries bigint, taken bigint, given bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
BEGIN
  PERFORM tokenctl.import_own(p_batch);
  RETURN QUERY EXECUTE format($sql$
    SELECT s.kind::text, count(*), coalesce(-sum(s.amount) FILTER (WHERE s.amount < 0), 0)::bigint,
      coalesce(sum(s.amount) FILTER (WHERE s.amount > 0), 0)::bigint
    FROM %s s GROUP BY s.kind $sql$, tokenctl.staging_part(p_batch, p_part));
END
$_$;


ALTER FUNCTION tokenctl.reversal_totals_v1(p_batch text, p_part integer) OWNER TO tokenctl_owner;

--
-- Name: reverse_v1(text, bigint, text, text, text, text, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.reverse_v1(p_user_id text, p_seq bigint, p_reason text, p_note text, p_ticket text, p_key text, p_request_id text, p_claimed_by text) RETURNS tokenctl.receipt_v1
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '10s'
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


ALTER FUNCTION tokenctl.reverse_v1(p_user_id text, p_seq bigint, p_reason text, p_note text, p_ticket text, p_key text, p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: seal_lock_v1(); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.seal_lock_v1() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN pg_try_advisory_xact_lock(hashtextextended('tokenctl seal', 0));
END
$$;


ALTER FUNCTION tokenctl.seal_lock_v1() OWNER TO tokenctl_owner;

--
-- Name: seals; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.seals (
    seal_no bigint NOT NULL,
    previous text COLLATE pg_catalog."C",
    head text NOT NULL COLLATE pg_catalog."C",
    content text NOT NULL COLLATE pg_catalog."C",
    users bigint NOT NULL,
    entries bigint NOT NULL,
    tokens numeric(38,0) NOT NULL,
    sealed_at timestamp with time zone NOT NULL,
    operator text NOT NULL COLLATE pg_catalog."C",
    claimed_by text NOT NULL COLLATE pg_catalog."C",
    request_id text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT seal_chained CHECK (((seal_no >= 1) AND ((seal_no = 1) = (previous IS NULL)))),
    CONSTRAINT seal_hashes_form CHECK (((head ~ '^[0-9a-f]{64}$'::text) AND (previous ~ '^[0-9a-f]{64}$'::text) AND (content ~ '^[0-9a-f]{64}$'::text)))
);


ALTER TABLE tokenctl.seals OWNER TO tokenctl_owner;

--
-- Name: seal_ranges(tokenctl.seals); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.seal_ranges(seal tokenctl.seals) RETURNS tokenctl.seals
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
BEGIN
  FOR part IN 0 .. tokenctl.partition_count() - 1 LOOP
    EXECUTE format($sql$
      INSERT INTO tokenctl.%3$I (user_id, first_seq, last_seq, seal_no, tokens, rows_sha256)
      SELECT c.user_id, r.first_seq, r.last_seq, $1, r.tokens, r.rows_sha256
      FROM (
        SELECT a.user_id, coalesce(s.last_seq, 0) AS sealed FROM tokenctl.%1$I a
        LEFT JOIN LATERAL (SELECT last_seq FROM tokenctl.%3$I WHERE user_id = a.user_id ORDER BY last_seq DESC LIMIT 1) s ON true
        WHERE a.last_seq > coalesce(s.last_seq, 0)) c
      CROSS JOIN LATERAL (
        SELECT min(t.seq) AS first_seq, max(t.seq) AS last_seq, sum(t.amount) AS tokens,
          sha256(string_agg(sha256(convert_to(
            'row1:' || length(t.user_id) || ':' || t.user_id || t.seq || ';' || t.amount || ';' || t.balance_after || ';'
            || (extract(epoch FROM t.created_at) * 1000000)::bigint || ';' || coalesce(t.reverses_seq || ';', '-')
            || length(t.kind) || ':' || t.kind || length(t.reason) || ':' || t.reason
            || coalesce(length(t.ticket) || ':' || t.ticket, '-') || coalesce(length(t.campaign) || ':' || t.campaign, '-')
            || length(t.operator) || ':' || t.operator || length(t.claimed_by) || ':' || t.claimed_by
            || length(t.request_id) || ':' || t.request_id || length(t.idempotency_key) || ':' || t.idempotency_key
            || coalesce(length(t.batch_id) || ':' || t.batch_id, '-') || coalesce(length(t.note) || ':' || t.note, '-'),
            'UTF8')), ''::bytea ORDER BY t.seq)) AS rows_sha256
        FROM tokenctl.%2$I t WHERE t.user_id = c.user_id AND t.seq > c.sealed
        GROUP BY (t.seq - 1) / 1000000) r $sql$,
      'token_accounts_' || part, 'token_transactions_' || part, 'sealed_ranges_' || part)
    USING seal.seal_no;
  END LOOP;
  SELECT encode(sha256(string_agg(p.page_sha256, ''::bytea ORDER BY p.page)), 'hex'), coalesce(sum(p.users), 0),
    coalesce(sum(p.entries), 0), coalesce(sum(p.tokens), 0)
  INTO seal.content, seal.users, seal.entries, seal.tokens
  FROM (
    SELECT r.page, sha256(string_agg(r.rows_sha256, ''::bytea ORDER BY r.user_id COLLATE "C", r.last_seq)) AS page_sha256,
      count(*) FILTER (WHERE r.is_first) AS users, sum(r.last_seq - r.first_seq + 1) AS entries, sum(r.tokens) AS tokens
    FROM (
      SELECT i.*, (row_number() OVER run - 1) / 1000000 AS page, lag(i.user_id) OVER run IS DISTINCT FROM i.user_id AS is_first
      FROM tokenctl.sealed_ranges i WHERE i.seal_no = seal.seal_no
      WINDOW run AS (ORDER BY i.user_id COLLATE "C", i.last_seq)) r
    GROUP BY r.page) p;
  RETURN seal;
END
$_$;


ALTER FUNCTION tokenctl.seal_ranges(seal tokenctl.seals) OWNER TO tokenctl_owner;

--
-- Name: seal_v1(text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.seal_v1(p_request_id text, p_claimed_by text) RETURNS tokenctl.seals
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET work_mem TO '64MB'
    AS $$
DECLARE
  last  tokenctl.seals;
  seal  tokenctl.seals;
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
    RAISE EXCEPTION 'a seal is made of one snapshot: BEGIN ISOLATION LEVEL REPEATABLE READ' USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  IF NOT tokenctl.seal_lock_v1() THEN
    RAISE EXCEPTION 'somebody else is sealing' USING ERRCODE = 'lock_not_available';
  END IF;
  SELECT * INTO last FROM tokenctl.seals s ORDER BY s.seal_no DESC LIMIT 1;
  seal.seal_no := coalesce(last.seal_no, 0) + 1;
  seal.previous := last.head;
  BEGIN
    seal := tokenctl.seal_ranges(seal);
    IF seal.entries = 0 THEN
      RETURN last;
    END IF;
    seal.sealed_at := clock_timestamp();
    seal.operator := session_user;
    seal.claimed_by := p_claimed_by;
    seal.request_id := p_request_id;
    seal.head := encode(sha256(convert_to(
      'seal1:' || coalesce(seal.previous, '-') || ';' || seal.seal_no || ';' || seal.content || ';'
      || seal.users || ';' || seal.entries || ';' || seal.tokens || ';' || (extract(epoch FROM seal.sealed_at) * 1000000)::bigint || ';'
      || length(seal.operator) || ':' || seal.operator || length(seal.claimed_by) || ':' || seal.claimed_by
      || length(seal.request_id) || ':' || seal.request_id, 'UTF8')), 'hex');
    INSERT INTO tokenctl.seals SELECT seal.*;
  EXCEPTION WHEN unique_violation THEN
    -- Somebody sealed between our snapshot and our lock; theirs stands.
    RAISE EXCEPTION 'somebody else sealed meanwhile' USING ERRCODE = 'lock_not_available';
  END;
  PERFORM tokenctl.audit(p_claimed_by, p_request_id, 'seal', 'sealed', seal.seal_no::text,
    jsonb_build_object('head', seal.head, 'users', seal.users, 'entries', seal.entries));
  RETURN seal;
END
$$;


ALTER FUNCTION tokenctl.seal_v1(p_request_id text, p_claimed_by text) OWNER TO tokenctl_owner;

--
-- Name: staging_create(text, text, text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.staging_create(p_batch text, p_check text, p_campaign text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    AS $_$
DECLARE
  v_table text := tokenctl.staging_table(p_batch);
  v_parts integer := tokenctl.partition_count();
BEGIN
  PERFORM tokenctl.staging_drop(p_batch);
  EXECUTE format('CREATE UNLOGGED TABLE %s (part integer, user_id text COLLATE "C", tokens bigint NOT NULL, n bigint NOT NULL, lines bigint NOT NULL,'
    ' PRIMARY KEY (part, user_id)) WITH (autovacuum_enabled = off)', tokenctl.staging_sums(p_batch));
  EXECUTE format($sql$
    CREATE TABLE %s (
      -- In the order in which a plan needs them: to read a column is to read those before it. Whether a row is
      -- in a slice is told from user_id alone.
      user_id         text COLLATE "C",
      line            bigint,
      amount          bigint,
      reverses_seq    bigint,
      idempotency_key text COLLATE "C",
      reason          text COLLATE "C",
      -- Defaults are those of columns that a file may lack.
      kind            text COLLATE "C" DEFAULT 'bonus',
      note            text,
      ticket          text COLLATE "C",
      campaign        text COLLATE "C" DEFAULT %L,
      -- Of a reversal: why the plan left the row out (reversal_leave_out_v1).
      left_out        text COLLATE "C",
      CONSTRAINT staged_rows CHECK ((user_id IS NOT NULL AND reason IS NOT NULL AND %s) IS TRUE)
    ) PARTITION BY HASH (user_id) $sql$, v_table, p_campaign, p_check);
  -- A good row fits in a page, so no partition needs a TOAST table: those and their indexes took more
  -- than half of the time here.
  EXECUTE format('ALTER TABLE %s ALTER user_id SET STORAGE PLAIN, ALTER kind SET STORAGE PLAIN, ALTER reason SET STORAGE PLAIN,'
    ' ALTER note SET STORAGE PLAIN, ALTER ticket SET STORAGE PLAIN, ALTER idempotency_key SET STORAGE PLAIN,'
    ' ALTER campaign SET STORAGE PLAIN, ALTER left_out SET STORAGE PLAIN', v_table);
  FOR i IN 0 .. v_parts - 1 LOOP
    EXECUTE format('CREATE UNLOGGED TABLE tokenctl_staging.%I PARTITION OF %s FOR VALUES WITH (MODULUS %s, REMAINDER %s) WITH (autovacuum_enabled = off)',
      'batch_' || p_batch || '_' || i, v_table, v_parts, i);
  END LOOP;
END
$_$;


ALTER FUNCTION tokenctl.staging_create(p_batch text, p_check text, p_campaign text) OWNER TO tokenctl_owner;

--
-- Name: staging_drop(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.staging_drop(p_batch text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    AS $$
BEGIN
  EXECUTE format('DROP TABLE IF EXISTS %s, %s', tokenctl.staging_table(p_batch), tokenctl.staging_sums(p_batch));
END
$$;


ALTER FUNCTION tokenctl.staging_drop(p_batch text) OWNER TO tokenctl_owner;

--
-- Name: staging_part(text, integer); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.staging_part(p_batch text, p_part integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN format('tokenctl_staging.%I', 'batch_' || p_batch || '_' || p_part);
END
$$;


ALTER FUNCTION tokenctl.staging_part(p_batch text, p_part integer) OWNER TO tokenctl_owner;

--
-- Name: staging_sums(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.staging_sums(p_batch text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN format('tokenctl_staging.%I', 'sums_' || p_batch);
END
$$;


ALTER FUNCTION tokenctl.staging_sums(p_batch text) OWNER TO tokenctl_owner;

--
-- Name: staging_table(text); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.staging_table(p_batch text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN format('tokenctl_staging.%I', 'batch_' || p_batch);
END
$$;


ALTER FUNCTION tokenctl.staging_table(p_batch text) OWNER TO tokenctl_owner;

--
-- Name: taken_back(integer); Type: FUNCTION; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE FUNCTION tokenctl.taken_back(p_part integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
  RETURN format('(t.reverses_seq IS NULL AND EXISTS (SELECT FROM tokenctl.%I r WHERE r.user_id = t.user_id AND r.reverses_seq = t.seq)'
    ' AND tokenctl.effective_reversal(t.user_id, t.seq) IS NOT NULL)', 'token_transactions_' || p_part);
END
$$;


ALTER FUNCTION tokenctl.taken_back(p_part integer) OWNER TO tokenctl_owner;

--
-- Name: sum_tokens(bigint); Type: AGGREGATE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE AGGREGATE tokenctl.sum_tokens(bigint) (
    SFUNC = int8pl,
    STYPE = bigint,
    INITCOND = '0'
);


ALTER AGGREGATE tokenctl.sum_tokens(bigint) OWNER TO tokenctl_owner;

--
-- Name: audit_log; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.audit_log (
    audit_id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    operator text NOT NULL COLLATE pg_catalog."C",
    claimed_by text NOT NULL COLLATE pg_catalog."C",
    request_id text NOT NULL COLLATE pg_catalog."C",
    action text NOT NULL COLLATE pg_catalog."C",
    outcome text NOT NULL COLLATE pg_catalog."C",
    subject text COLLATE pg_catalog."C",
    arguments jsonb DEFAULT '{}'::jsonb NOT NULL
);


ALTER TABLE tokenctl.audit_log OWNER TO tokenctl_owner;

--
-- Name: audit_log_audit_id_seq; Type: SEQUENCE; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE tokenctl.audit_log ALTER COLUMN audit_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME tokenctl.audit_log_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: generations; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.generations (
    user_id text NOT NULL COLLATE pg_catalog."C",
    generation_id text NOT NULL COLLATE pg_catalog."C",
    model text NOT NULL COLLATE pg_catalog."C",
    quality text NOT NULL COLLATE pg_catalog."C",
    aspect_ratio text COLLATE pg_catalog."C",
    price_version text NOT NULL COLLATE pg_catalog."C",
    input_sha256 text NOT NULL COLLATE pg_catalog."C",
    attempts integer DEFAULT 0 NOT NULL,
    lease_by text COLLATE pg_catalog."C",
    lease_until timestamp with time zone,
    response_id text,
    model_version text,
    usage jsonb,
    image_sha256 text COLLATE pg_catalog."C",
    image_bytes bigint,
    width integer,
    height integer,
    released_why text COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    released_by text COLLATE pg_catalog."C",
    released_claimed_by text COLLATE pg_catalog."C",
    released_run text COLLATE pg_catalog."C",
    CONSTRAINT attempts_range CHECK ((attempts >= 0)),
    CONSTRAINT generation_id_form CHECK ((generation_id ~ '^[0-9a-f]{12}$'::text)),
    CONSTRAINT image_whole CHECK ((num_nulls(image_sha256, image_bytes, width, height) = ANY (ARRAY[0, 4]))),
    CONSTRAINT input_sha256_form CHECK ((input_sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT lease_paired CHECK (((lease_by IS NULL) = (lease_until IS NULL))),
    CONSTRAINT quality_known CHECK ((quality = ANY (ARRAY['1K'::text, '2K'::text, '4K'::text])))
)
PARTITION BY HASH (user_id);


ALTER TABLE tokenctl.generations OWNER TO tokenctl_owner;

--
-- Name: schema_functions; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.schema_functions (
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);


ALTER TABLE tokenctl.schema_functions OWNER TO tokenctl_owner;

--
-- Name: schema_migrations; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    applied_by text DEFAULT SESSION_USER NOT NULL
);


ALTER TABLE tokenctl.schema_migrations OWNER TO tokenctl_owner;

--
-- Name: sealed_ranges; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.sealed_ranges (
    user_id text NOT NULL COLLATE pg_catalog."C",
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    seal_no bigint NOT NULL,
    tokens bigint NOT NULL,
    rows_sha256 bytea NOT NULL,
    CONSTRAINT sealed_range_runs CHECK (((first_seq >= 1) AND (first_seq <= last_seq))),
    CONSTRAINT sealed_rows_sha256 CHECK ((octet_length(rows_sha256) = 32))
)
PARTITION BY HASH (user_id);


ALTER TABLE tokenctl.sealed_ranges OWNER TO tokenctl_owner;

--
-- Name: token_accounts; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.token_accounts (
    user_id text NOT NULL COLLATE pg_catalog."C",
    balance bigint DEFAULT 0 NOT NULL,
    last_seq bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT balance_range CHECK (((balance >= 0) AND (balance <= '9007199254740991'::bigint))),
    CONSTRAINT last_seq_range CHECK ((last_seq >= 0)),
    CONSTRAINT user_id_form CHECK (((user_id ~ '^[A-Za-z0-9._:@][A-Za-z0-9._:@-]*$'::text) AND (length(user_id) <= 128)))
)
PARTITION BY HASH (user_id);


ALTER TABLE tokenctl.token_accounts OWNER TO tokenctl_owner;

--
-- Name: token_funds; Type: VIEW; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE VIEW tokenctl.token_funds AS
 SELECT kind AS fund,
    (- sum(amount)) AS balance,
    count(*) AS entries
   FROM tokenctl.token_transactions
  GROUP BY kind;


ALTER VIEW tokenctl.token_funds OWNER TO tokenctl_owner;

--
-- Name: token_holds; Type: TABLE; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TABLE tokenctl.token_holds (
    user_id text NOT NULL COLLATE pg_catalog."C",
    hold_id text NOT NULL COLLATE pg_catalog."C",
    amount bigint NOT NULL,
    state text DEFAULT 'open'::text NOT NULL COLLATE pg_catalog."C",
    expires_at timestamp with time zone NOT NULL,
    purpose text NOT NULL COLLATE pg_catalog."C",
    idempotency_key text NOT NULL COLLATE pg_catalog."C",
    captured_seq bigint,
    operator text NOT NULL COLLATE pg_catalog."C",
    claimed_by text NOT NULL COLLATE pg_catalog."C",
    request_id text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    settled_at timestamp with time zone,
    CONSTRAINT hold_amount_range CHECK (((amount >= 1) AND (amount <= '9007199254740991'::bigint))),
    CONSTRAINT hold_captured_paired CHECK (((state = 'captured'::text) = (captured_seq IS NOT NULL))),
    CONSTRAINT hold_settled_paired CHECK (((state = 'open'::text) = (settled_at IS NULL))),
    CONSTRAINT hold_state_known CHECK ((state = ANY (ARRAY['open'::text, 'captured'::text, 'released'::text])))
)
PARTITION BY HASH (user_id);


ALTER TABLE tokenctl.token_holds OWNER TO tokenctl_owner;

--
-- Name: audit_log audit_log_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (audit_id);


--
-- Name: import_batches batch_rows_add_up; Type: CHECK CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE tokenctl.import_batches
    ADD CONSTRAINT batch_rows_add_up CHECK (((state <> 'done'::text) OR (rows_read = (((((applied + replayed) + conflicting) + refused) + rejected) + duplicate)))) NOT VALID;


--
-- Name: generations generations_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.generations
    ADD CONSTRAINT generations_pkey PRIMARY KEY (user_id, generation_id);


--
-- Name: token_holds hold_key_once; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.token_holds
    ADD CONSTRAINT hold_key_once UNIQUE (user_id, idempotency_key);


--
-- Name: token_transactions idempotency_key_once; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.token_transactions
    ADD CONSTRAINT idempotency_key_once UNIQUE (user_id, idempotency_key);


--
-- Name: import_batches import_batches_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.import_batches
    ADD CONSTRAINT import_batches_pkey PRIMARY KEY (batch_id);


--
-- Name: import_lanes import_lanes_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.import_lanes
    ADD CONSTRAINT import_lanes_pkey PRIMARY KEY (batch_id, part, slice);


--
-- Name: schema_functions schema_functions_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.schema_functions
    ADD CONSTRAINT schema_functions_pkey PRIMARY KEY (name);


--
-- Name: schema_migrations schema_migrations_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);


--
-- Name: sealed_ranges sealed_ranges_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.sealed_ranges
    ADD CONSTRAINT sealed_ranges_pkey PRIMARY KEY (user_id, last_seq);


--
-- Name: seals seals_head_key; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.seals
    ADD CONSTRAINT seals_head_key UNIQUE (head);


--
-- Name: seals seals_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.seals
    ADD CONSTRAINT seals_pkey PRIMARY KEY (seal_no);


--
-- Name: seals seals_previous_key; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.seals
    ADD CONSTRAINT seals_previous_key UNIQUE (previous);


--
-- Name: token_accounts token_accounts_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.token_accounts
    ADD CONSTRAINT token_accounts_pkey PRIMARY KEY (user_id);


--
-- Name: token_holds token_holds_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.token_holds
    ADD CONSTRAINT token_holds_pkey PRIMARY KEY (user_id, hold_id);


--
-- Name: token_transactions token_transactions_pkey; Type: CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.token_transactions
    ADD CONSTRAINT token_transactions_pkey PRIMARY KEY (user_id, seq);


--
-- Name: holds_open; Type: INDEX; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE INDEX holds_open ON ONLY tokenctl.token_holds USING btree (user_id) INCLUDE (amount, expires_at) WHERE (state = 'open'::text);


--
-- Name: import_batches_reverses; Type: INDEX; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE INDEX import_batches_reverses ON tokenctl.import_batches USING btree (reverses_batch) WHERE (reverses_batch IS NOT NULL);


--
-- Name: import_batches_reverses_operator; Type: INDEX; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE INDEX import_batches_reverses_operator ON tokenctl.import_batches USING btree (reverses_operator) WHERE (reverses_operator IS NOT NULL);


--
-- Name: reversed_once; Type: INDEX; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE UNIQUE INDEX reversed_once ON ONLY tokenctl.token_transactions USING btree (user_id, reverses_seq) WHERE (reverses_seq IS NOT NULL);


--
-- Name: sealed_ranges_seal_no; Type: INDEX; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE INDEX sealed_ranges_seal_no ON ONLY tokenctl.sealed_ranges USING btree (seal_no);


--
-- Name: audit_log append_only; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON tokenctl.audit_log FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.audit_log ENABLE ALWAYS TRIGGER append_only;


--
-- Name: sealed_ranges append_only; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON tokenctl.sealed_ranges FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.sealed_ranges ENABLE ALWAYS TRIGGER append_only;


--
-- Name: seals append_only; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON tokenctl.seals FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.seals ENABLE ALWAYS TRIGGER append_only;


--
-- Name: token_transactions append_only; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON tokenctl.token_transactions FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.token_transactions ENABLE ALWAYS TRIGGER append_only;


--
-- Name: token_holds captured_stays; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER captured_stays BEFORE UPDATE ON tokenctl.token_holds FOR EACH ROW WHEN ((old.state = 'captured'::text)) EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.token_holds ENABLE ALWAYS TRIGGER captured_stays;


--
-- Name: generations image_stays; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER image_stays BEFORE UPDATE ON tokenctl.generations FOR EACH ROW WHEN ((old.image_sha256 IS NOT NULL)) EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.generations ENABLE ALWAYS TRIGGER image_stays;


--
-- Name: generations never_deleted; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER never_deleted BEFORE DELETE ON tokenctl.generations FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.generations ENABLE ALWAYS TRIGGER never_deleted;


--
-- Name: token_accounts never_deleted; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER never_deleted BEFORE DELETE ON tokenctl.token_accounts FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.token_accounts ENABLE ALWAYS TRIGGER never_deleted;


--
-- Name: token_holds never_deleted; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER never_deleted BEFORE DELETE ON tokenctl.token_holds FOR EACH ROW EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.token_holds ENABLE ALWAYS TRIGGER never_deleted;


--
-- Name: audit_log never_truncated; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER never_truncated BEFORE TRUNCATE ON tokenctl.audit_log FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.audit_log ENABLE ALWAYS TRIGGER never_truncated;


--
-- Name: generations never_truncated; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER never_truncated BEFORE TRUNCATE ON tokenctl.generations FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.generations ENABLE ALWAYS TRIGGER never_truncated;


--
-- Name: sealed_ranges never_truncated; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER never_truncated BEFORE TRUNCATE ON tokenctl.sealed_ranges FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.sealed_ranges ENABLE ALWAYS TRIGGER never_truncated;


--
-- Name: seals never_truncated; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER never_truncated BEFORE TRUNCATE ON tokenctl.seals FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.seals ENABLE ALWAYS TRIGGER never_truncated;


--
-- Name: token_accounts never_truncated; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER never_truncated BEFORE TRUNCATE ON tokenctl.token_accounts FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.token_accounts ENABLE ALWAYS TRIGGER never_truncated;


--
-- Name: token_holds never_truncated; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER never_truncated BEFORE TRUNCATE ON tokenctl.token_holds FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.token_holds ENABLE ALWAYS TRIGGER never_truncated;


--
-- Name: token_transactions never_truncated; Type: TRIGGER; Schema: tokenctl; Owner: tokenctl_owner
--

CREATE TRIGGER never_truncated BEFORE TRUNCATE ON tokenctl.token_transactions FOR EACH STATEMENT EXECUTE FUNCTION tokenctl.refuse_change();

ALTER TABLE tokenctl.token_transactions ENABLE ALWAYS TRIGGER never_truncated;


--
-- Name: generations generation_hold; Type: FK CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE tokenctl.generations
    ADD CONSTRAINT generation_hold FOREIGN KEY (user_id, generation_id) REFERENCES tokenctl.token_holds(user_id, hold_id);


--
-- Name: import_batches import_batches_reverses_batch_fkey; Type: FK CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.import_batches
    ADD CONSTRAINT import_batches_reverses_batch_fkey FOREIGN KEY (reverses_batch) REFERENCES tokenctl.import_batches(batch_id);


--
-- Name: import_lanes import_lanes_batch_id_fkey; Type: FK CONSTRAINT; Schema: tokenctl; Owner: tokenctl_owner
--

ALTER TABLE ONLY tokenctl.import_lanes
    ADD CONSTRAINT import_lanes_batch_id_fkey FOREIGN KEY (batch_id) REFERENCES tokenctl.import_batches(batch_id) ON DELETE CASCADE;


--
-- Name: SCHEMA tokenctl; Type: ACL; Schema: -; Owner: tokenctl_owner
--

GRANT USAGE ON SCHEMA tokenctl TO tokenctl_reader;


--
-- Name: SCHEMA tokenctl_staging; Type: ACL; Schema: -; Owner: tokenctl_owner
--

GRANT USAGE ON SCHEMA tokenctl_staging TO tokenctl_batch;


--
-- Name: FUNCTION audit(p_claimed_by text, p_request_id text, p_action text, p_outcome text, p_subject text, p_arguments jsonb); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.audit(p_claimed_by text, p_request_id text, p_action text, p_outcome text, p_subject text, p_arguments jsonb) FROM PUBLIC;


--
-- Name: FUNCTION batch_begin(p_batch text, p_options jsonb); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.batch_begin(p_batch text, p_options jsonb) FROM PUBLIC;


--
-- Name: FUNCTION batch_is_reversed(p_batch text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.batch_is_reversed(p_batch text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.batch_is_reversed(p_batch text) TO tokenctl_reader;


--
-- Name: FUNCTION demand_free_key(p_key text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.demand_free_key(p_key text) FROM PUBLIC;


--
-- Name: FUNCTION done_by(p_name text, p_since timestamp with time zone, p_until timestamp with time zone); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.done_by(p_name text, p_since timestamp with time zone, p_until timestamp with time zone) FROM PUBLIC;


--
-- Name: FUNCTION effective_reversal(p_user_id text, p_seq bigint); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.effective_reversal(p_user_id text, p_seq bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.effective_reversal(p_user_id text, p_seq bigint) TO tokenctl_reader;


--
-- Name: FUNCTION generation_capture_v1(p_user_id text, p_generation_id text, p_image_sha256 text, p_image_bytes bigint, p_width integer, p_height integer, p_response_id text, p_model_version text, p_usage jsonb, p_lease_by text, p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.generation_capture_v1(p_user_id text, p_generation_id text, p_image_sha256 text, p_image_bytes bigint, p_width integer, p_height integer, p_response_id text, p_model_version text, p_usage jsonb, p_lease_by text, p_request_id text, p_claimed_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.generation_capture_v1(p_user_id text, p_generation_id text, p_image_sha256 text, p_image_bytes bigint, p_width integer, p_height integer, p_response_id text, p_model_version text, p_usage jsonb, p_lease_by text, p_request_id text, p_claimed_by text) TO tokenctl_support;
GRANT ALL ON FUNCTION tokenctl.generation_capture_v1(p_user_id text, p_generation_id text, p_image_sha256 text, p_image_bytes bigint, p_width integer, p_height integer, p_response_id text, p_model_version text, p_usage jsonb, p_lease_by text, p_request_id text, p_claimed_by text) TO tokenctl_batch;


--
-- Name: FUNCTION generation_claim_v1(p_user_id text, p_generation_id text, p_lease_s integer, p_hold_s integer, p_max_attempts integer, p_lease_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.generation_claim_v1(p_user_id text, p_generation_id text, p_lease_s integer, p_hold_s integer, p_max_attempts integer, p_lease_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.generation_claim_v1(p_user_id text, p_generation_id text, p_lease_s integer, p_hold_s integer, p_max_attempts integer, p_lease_by text) TO tokenctl_support;
GRANT ALL ON FUNCTION tokenctl.generation_claim_v1(p_user_id text, p_generation_id text, p_lease_s integer, p_hold_s integer, p_max_attempts integer, p_lease_by text) TO tokenctl_batch;


--
-- Name: FUNCTION generation_open_v1(p_user_id text, p_generation_id text, p_amount bigint, p_hold_s integer, p_key text, p_model text, p_quality text, p_aspect_ratio text, p_price_version text, p_input_sha256 text, p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.generation_open_v1(p_user_id text, p_generation_id text, p_amount bigint, p_hold_s integer, p_key text, p_model text, p_quality text, p_aspect_ratio text, p_price_version text, p_input_sha256 text, p_request_id text, p_claimed_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.generation_open_v1(p_user_id text, p_generation_id text, p_amount bigint, p_hold_s integer, p_key text, p_model text, p_quality text, p_aspect_ratio text, p_price_version text, p_input_sha256 text, p_request_id text, p_claimed_by text) TO tokenctl_support;
GRANT ALL ON FUNCTION tokenctl.generation_open_v1(p_user_id text, p_generation_id text, p_amount bigint, p_hold_s integer, p_key text, p_model text, p_quality text, p_aspect_ratio text, p_price_version text, p_input_sha256 text, p_request_id text, p_claimed_by text) TO tokenctl_batch;


--
-- Name: FUNCTION generation_release_v1(p_user_id text, p_generation_id text, p_why text, p_force boolean, p_past_only boolean, p_lease_by text, p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.generation_release_v1(p_user_id text, p_generation_id text, p_why text, p_force boolean, p_past_only boolean, p_lease_by text, p_request_id text, p_claimed_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.generation_release_v1(p_user_id text, p_generation_id text, p_why text, p_force boolean, p_past_only boolean, p_lease_by text, p_request_id text, p_claimed_by text) TO tokenctl_support;
GRANT ALL ON FUNCTION tokenctl.generation_release_v1(p_user_id text, p_generation_id text, p_why text, p_force boolean, p_past_only boolean, p_lease_by text, p_request_id text, p_claimed_by text) TO tokenctl_batch;


--
-- Name: FUNCTION generation_row(p_user_id text, p_generation_id text, p_outcome text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.generation_row(p_user_id text, p_generation_id text, p_outcome text) FROM PUBLIC;


--
-- Name: FUNCTION generation_v1(p_user_id text, p_generation_id text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.generation_v1(p_user_id text, p_generation_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.generation_v1(p_user_id text, p_generation_id text) TO tokenctl_reader;


--
-- Name: FUNCTION grant_key_v1(p_user_id text, p_amount bigint, p_reason text, p_ticket text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.grant_key_v1(p_user_id text, p_amount bigint, p_reason text, p_ticket text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.grant_key_v1(p_user_id text, p_amount bigint, p_reason text, p_ticket text) TO tokenctl_reader;


--
-- Name: FUNCTION held_by_a(p_part integer); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.held_by_a(p_part integer) FROM PUBLIC;


--
-- Name: FUNCTION held_tokens(p_user_id text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.held_tokens(p_user_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.held_tokens(p_user_id text) TO tokenctl_reader;


--
-- Name: TABLE import_lanes; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.import_lanes TO tokenctl_reader;


--
-- Name: FUNCTION import_apply_v1(p_batch text, p_part integer, p_slice integer, p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_apply_v1(p_batch text, p_part integer, p_slice integer, p_request_id text, p_claimed_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.import_apply_v1(p_batch text, p_part integer, p_slice integer, p_request_id text, p_claimed_by text) TO tokenctl_batch;


--
-- Name: FUNCTION import_begin_v1(p_batch text, p_asked jsonb); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_begin_v1(p_batch text, p_asked jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.import_begin_v1(p_batch text, p_asked jsonb) TO tokenctl_batch;


--
-- Name: TABLE import_batches; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.import_batches TO tokenctl_reader;


--
-- Name: FUNCTION import_close_v1(p_batch text, p_rows_read bigint, p_rejected bigint, p_duplicate bigint); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_close_v1(p_batch text, p_rows_read bigint, p_rejected bigint, p_duplicate bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.import_close_v1(p_batch text, p_rows_read bigint, p_rejected bigint, p_duplicate bigint) TO tokenctl_batch;


--
-- Name: FUNCTION import_cut(batch tokenctl.import_batches, p_part integer, p_rows bigint); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_cut(batch tokenctl.import_batches, p_part integer, p_rows bigint) FROM PUBLIC;


--
-- Name: FUNCTION import_demand_lock(p_batch text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_demand_lock(p_batch text) FROM PUBLIC;


--
-- Name: FUNCTION import_findings_v1(p_batch text, p_part integer, p_known_only boolean); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_findings_v1(p_batch text, p_part integer, p_known_only boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.import_findings_v1(p_batch text, p_part integer, p_known_only boolean) TO tokenctl_batch;


--
-- Name: FUNCTION import_lock_v1(p_batch text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_lock_v1(p_batch text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.import_lock_v1(p_batch text) TO tokenctl_support;
GRANT ALL ON FUNCTION tokenctl.import_lock_v1(p_batch text) TO tokenctl_batch;


--
-- Name: FUNCTION import_open_v1(p_batch text, p_file_name text, p_sha256 text, p_size bigint, p_options jsonb, p_slices integer, p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_open_v1(p_batch text, p_file_name text, p_sha256 text, p_size bigint, p_options jsonb, p_slices integer, p_request_id text, p_claimed_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.import_open_v1(p_batch text, p_file_name text, p_sha256 text, p_size bigint, p_options jsonb, p_slices integer, p_request_id text, p_claimed_by text) TO tokenctl_support;
GRANT ALL ON FUNCTION tokenctl.import_open_v1(p_batch text, p_file_name text, p_sha256 text, p_size bigint, p_options jsonb, p_slices integer, p_request_id text, p_claimed_by text) TO tokenctl_batch;


--
-- Name: FUNCTION import_own(p_batch text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_own(p_batch text) FROM PUBLIC;


--
-- Name: FUNCTION import_plan_v1(p_batch text, p_part integer, p_known_only boolean, p_drop bigint[]); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_plan_v1(p_batch text, p_part integer, p_known_only boolean, p_drop bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.import_plan_v1(p_batch text, p_part integer, p_known_only boolean, p_drop bigint[]) TO tokenctl_batch;


--
-- Name: FUNCTION import_reap(); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_reap() FROM PUBLIC;


--
-- Name: FUNCTION import_reopen(p_batch text, p_refused boolean); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_reopen(p_batch text, p_refused boolean) FROM PUBLIC;


--
-- Name: FUNCTION import_seal_v1(p_batch text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_seal_v1(p_batch text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.import_seal_v1(p_batch text) TO tokenctl_batch;


--
-- Name: FUNCTION import_slices(p_batch text, p_part integer); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_slices(p_batch text, p_part integer) FROM PUBLIC;


--
-- Name: FUNCTION import_sum(p_batch text, p_part integer, p_reasons text[], OUT staged bigint, OUT tokens bigint, OUT users bigint, OUT new_users bigint, OUT largest_user text, OUT largest_tokens bigint, OUT too_large boolean, OUT other_reasons boolean); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.import_sum(p_batch text, p_part integer, p_reasons text[], OUT staged bigint, OUT tokens bigint, OUT users bigint, OUT new_users bigint, OUT largest_user text, OUT largest_tokens bigint, OUT too_large boolean, OUT other_reasons boolean) FROM PUBLIC;


--
-- Name: FUNCTION may_generate(); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.may_generate() FROM PUBLIC;


--
-- Name: FUNCTION may_post(p_kind text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.may_post(p_kind text) FROM PUBLIC;


--
-- Name: FUNCTION opened_as(batch tokenctl.import_batches); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.opened_as(batch tokenctl.import_batches) FROM PUBLIC;


--
-- Name: FUNCTION partition_count(); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.partition_count() FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.partition_count() TO tokenctl_reader;


--
-- Name: FUNCTION post_judged(lane tokenctl.import_lanes, p_source text, p_reversal boolean, p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.post_judged(lane tokenctl.import_lanes, p_source text, p_reversal boolean, p_request_id text, p_claimed_by text) FROM PUBLIC;


--
-- Name: FUNCTION post_one(p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text, p_key text, p_reverses_seq bigint, p_request_id text, p_claimed_by text, p_new_user boolean); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.post_one(p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text, p_key text, p_reverses_seq bigint, p_request_id text, p_claimed_by text, p_new_user boolean) FROM PUBLIC;


--
-- Name: FUNCTION post_set(p_part integer, p_source text, p_sums text, p_mine text, p_users bigint, p_reversal boolean, p_batch text, p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.post_set(p_part integer, p_source text, p_sums text, p_mine text, p_users bigint, p_reversal boolean, p_batch text, p_request_id text, p_claimed_by text) FROM PUBLIC;


--
-- Name: FUNCTION post_sorted(lane tokenctl.import_lanes, p_source text, p_reversal boolean, p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.post_sorted(lane tokenctl.import_lanes, p_source text, p_reversal boolean, p_request_id text, p_claimed_by text) FROM PUBLIC;


--
-- Name: FUNCTION post_v1(p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text, p_key text, p_request_id text, p_claimed_by text, p_new_user boolean); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.post_v1(p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text, p_key text, p_request_id text, p_claimed_by text, p_new_user boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.post_v1(p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text, p_key text, p_request_id text, p_claimed_by text, p_new_user boolean) TO tokenctl_support;
GRANT ALL ON FUNCTION tokenctl.post_v1(p_user_id text, p_kind text, p_amount bigint, p_reason text, p_note text, p_ticket text, p_campaign text, p_key text, p_request_id text, p_claimed_by text, p_new_user boolean) TO tokenctl_batch;


--
-- Name: TABLE token_transactions; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.token_transactions TO tokenctl_reader;


--
-- Name: FUNCTION receipt_of(p_entry tokenctl.token_transactions); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.receipt_of(p_entry tokenctl.token_transactions) FROM PUBLIC;


--
-- Name: FUNCTION refuse_change(); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.refuse_change() FROM PUBLIC;


--
-- Name: FUNCTION reversal_begin_v1(p_batch text, p_total bigint); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.reversal_begin_v1(p_batch text, p_total bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.reversal_begin_v1(p_batch text, p_total bigint) TO tokenctl_batch;


--
-- Name: FUNCTION reversal_leave_out_v1(p_batch text, p_part integer); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.reversal_leave_out_v1(p_batch text, p_part integer) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.reversal_leave_out_v1(p_batch text, p_part integer) TO tokenctl_batch;


--
-- Name: FUNCTION reversal_open_v1(p_batch text, p_reverses text, p_operator text, p_since timestamp with time zone, p_until timestamp with time zone, p_reason text, p_note text, p_ticket text, p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.reversal_open_v1(p_batch text, p_reverses text, p_operator text, p_since timestamp with time zone, p_until timestamp with time zone, p_reason text, p_note text, p_ticket text, p_request_id text, p_claimed_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.reversal_open_v1(p_batch text, p_reverses text, p_operator text, p_since timestamp with time zone, p_until timestamp with time zone, p_reason text, p_note text, p_ticket text, p_request_id text, p_claimed_by text) TO tokenctl_support;
GRANT ALL ON FUNCTION tokenctl.reversal_open_v1(p_batch text, p_reverses text, p_operator text, p_since timestamp with time zone, p_until timestamp with time zone, p_reason text, p_note text, p_ticket text, p_request_id text, p_claimed_by text) TO tokenctl_batch;


--
-- Name: FUNCTION reversal_stage_v1(p_batch text, p_part integer, OUT staged bigint, OUT chosen boolean, OUT given_back text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.reversal_stage_v1(p_batch text, p_part integer, OUT staged bigint, OUT chosen boolean, OUT given_back text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.reversal_stage_v1(p_batch text, p_part integer, OUT staged bigint, OUT chosen boolean, OUT given_back text) TO tokenctl_batch;


--
-- Name: FUNCTION reversal_staged_v1(p_batch text, p_rows bigint, p_slices integer); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.reversal_staged_v1(p_batch text, p_rows bigint, p_slices integer) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.reversal_staged_v1(p_batch text, p_rows bigint, p_slices integer) TO tokenctl_batch;


--
-- Name: FUNCTION reversal_totals_v1(p_batch text, p_part integer); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.reversal_totals_v1(p_batch text, p_part integer) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.reversal_totals_v1(p_batch text, p_part integer) TO tokenctl_batch;


--
-- Name: FUNCTION reverse_v1(p_user_id text, p_seq bigint, p_reason text, p_note text, p_ticket text, p_key text, p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.reverse_v1(p_user_id text, p_seq bigint, p_reason text, p_note text, p_ticket text, p_key text, p_request_id text, p_claimed_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.reverse_v1(p_user_id text, p_seq bigint, p_reason text, p_note text, p_ticket text, p_key text, p_request_id text, p_claimed_by text) TO tokenctl_support;
GRANT ALL ON FUNCTION tokenctl.reverse_v1(p_user_id text, p_seq bigint, p_reason text, p_note text, p_ticket text, p_key text, p_request_id text, p_claimed_by text) TO tokenctl_batch;


--
-- Name: FUNCTION seal_lock_v1(); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.seal_lock_v1() FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.seal_lock_v1() TO tokenctl_admin;


--
-- Name: TABLE seals; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.seals TO tokenctl_reader;


--
-- Name: FUNCTION seal_ranges(seal tokenctl.seals); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.seal_ranges(seal tokenctl.seals) FROM PUBLIC;


--
-- Name: FUNCTION seal_v1(p_request_id text, p_claimed_by text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.seal_v1(p_request_id text, p_claimed_by text) FROM PUBLIC;
GRANT ALL ON FUNCTION tokenctl.seal_v1(p_request_id text, p_claimed_by text) TO tokenctl_admin;


--
-- Name: FUNCTION staging_create(p_batch text, p_check text, p_campaign text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.staging_create(p_batch text, p_check text, p_campaign text) FROM PUBLIC;


--
-- Name: FUNCTION staging_drop(p_batch text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.staging_drop(p_batch text) FROM PUBLIC;


--
-- Name: FUNCTION staging_part(p_batch text, p_part integer); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.staging_part(p_batch text, p_part integer) FROM PUBLIC;


--
-- Name: FUNCTION staging_sums(p_batch text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.staging_sums(p_batch text) FROM PUBLIC;


--
-- Name: FUNCTION staging_table(p_batch text); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.staging_table(p_batch text) FROM PUBLIC;


--
-- Name: FUNCTION taken_back(p_part integer); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.taken_back(p_part integer) FROM PUBLIC;


--
-- Name: FUNCTION sum_tokens(bigint); Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

REVOKE ALL ON FUNCTION tokenctl.sum_tokens(bigint) FROM PUBLIC;


--
-- Name: TABLE audit_log; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.audit_log TO tokenctl_admin;


--
-- Name: TABLE generations; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.generations TO tokenctl_reader;


--
-- Name: TABLE schema_functions; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.schema_functions TO tokenctl_reader;


--
-- Name: TABLE schema_migrations; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.schema_migrations TO tokenctl_reader;


--
-- Name: TABLE sealed_ranges; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.sealed_ranges TO tokenctl_reader;


--
-- Name: TABLE token_accounts; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.token_accounts TO tokenctl_reader;


--
-- Name: TABLE token_funds; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.token_funds TO tokenctl_reader;


--
-- Name: TABLE token_holds; Type: ACL; Schema: tokenctl; Owner: tokenctl_owner
--

GRANT SELECT ON TABLE tokenctl.token_holds TO tokenctl_reader;


--
-- PostgreSQL database dump complete
--

\unrestrict tokenctl
