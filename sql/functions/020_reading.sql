-- Small questions that several functions ask.

-- Tokens under open holds of one user, judged by the database's clock.
CREATE OR REPLACE FUNCTION tokenctl.held_tokens(p_user_id text) RETURNS bigint
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (SELECT coalesce(sum(h.amount), 0)::bigint FROM tokenctl.token_holds h
          WHERE h.user_id = p_user_id AND h.state = 'open' AND h.expires_at > clock_timestamp());
END
$$;

-- The seq of the reversal that undoes this entry today, or NULL. A reversal can be
-- reversed in its turn, which makes the first entry count again.
CREATE OR REPLACE FUNCTION tokenctl.effective_reversal(p_user_id text, p_seq bigint) RETURNS bigint
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
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

CREATE OR REPLACE FUNCTION tokenctl.audit(p_claimed_by text, p_request_id text, p_action text, p_outcome text, p_subject text, p_arguments jsonb) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO tokenctl.audit_log (operator, claimed_by, request_id, action, outcome, subject, arguments)
  VALUES (session_user, p_claimed_by, p_request_id, p_action, p_outcome, p_subject, jsonb_strip_nulls(p_arguments));
END
$$;

-- Which role may post which kind of entry by hand or by file.
CREATE OR REPLACE FUNCTION tokenctl.may_post(p_kind text) RETURNS boolean
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
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

-- The key of a grant for which nobody named one: the same grant on the same UTC day
-- is the same grant. Parts are length-prefixed, so that no two lists of parts read alike.
CREATE OR REPLACE FUNCTION tokenctl.grant_key_v1(p_user_id text, p_amount bigint, p_reason text, p_ticket text) RETURNS text
  LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
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

-- Keys that begin like this are made by the ledger itself, for the reversal of an entry and for
-- the payment of a generation. Nobody may take one first: that entry could never be posted.
CREATE OR REPLACE FUNCTION tokenctl.demand_free_key(p_key text) RETURNS void
  LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF starts_with(p_key, 'reverse:') OR starts_with(p_key, 'generation:') THEN
    RAISE EXCEPTION 'the key is of the ledger''s own kind' USING ERRCODE = 'check_violation', CONSTRAINT = 'key_reserved';
  END IF;
END
$$;

REVOKE ALL ON FUNCTION tokenctl.demand_free_key(text), tokenctl.held_tokens(text), tokenctl.effective_reversal(text, bigint), tokenctl.may_post(text),
  tokenctl.audit(text, text, text, text, text, jsonb), tokenctl.grant_key_v1(text, bigint, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tokenctl.held_tokens(text), tokenctl.effective_reversal(text, bigint),
  tokenctl.grant_key_v1(text, bigint, text, text) TO tokenctl_reader;
