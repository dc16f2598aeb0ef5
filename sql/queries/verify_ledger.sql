-- Every rule of the ledger for some users, from their rows alone, in one statement: what
-- was looked at, how many findings each rule has, and the first hundred of them.
-- accounts, entries, holds, ranges: one partition of each table, or with `only` one user
-- the tables; part: integer, that partition's number; whole: boolean, all rows of the
-- partition are looked at; only: which users, as a condition on user_id; mine: the same
-- without reference to what is below
--
-- Only what pg_catalog brings is called: a function of the ledger's own schema could be
-- changed together with the rows.
WITH
-- Accounts whose newest entry is not the last that was sealed.
changed AS MATERIALIZED (
  SELECT a.user_id, a.last_seq, coalesce(s.last_seq, 0) AS sealed FROM {accounts} a
  LEFT JOIN LATERAL (SELECT last_seq FROM {ranges} WHERE user_id = a.user_id ORDER BY last_seq DESC LIMIT 1) s ON true
  WHERE a.last_seq <> coalesce(s.last_seq, 0) AND {mine}),
-- Each entry beside the one before it. If all follow from their predecessors, seq has no
-- gap and balance_after is the running sum; a break shows once, where it is.
walked AS (
  SELECT user_id, seq, amount, balance_after, created_at,
    lag(seq, 1, 0::bigint) OVER run AS seq_before, lag(balance_after, 1, 0::bigint) OVER run AS balance_before,
    lag(created_at, 1, '-infinity') OVER run AS at_before
  FROM {entries} WHERE {only}
  WINDOW run AS (PARTITION BY user_id ORDER BY seq)),
-- CASE, because nothing else keeps PostgreSQL from counting with a number out of range.
judged AS (
  SELECT *,
    CASE WHEN seq >= 1 THEN seq - 1 <> seq_before ELSE true END AS is_gap,
    (amount <> 0 AND amount BETWEEN -9007199254740991 AND 9007199254740991
      AND balance_after BETWEEN 0 AND 9007199254740991) IS NOT TRUE AS is_out,
    CASE WHEN amount BETWEEN -9007199254740991 AND 9007199254740991 AND balance_after BETWEEN 0 AND 9007199254740991
      THEN balance_after - amount <> balance_before ELSE true END AS is_off,
    (created_at < at_before) IS NOT FALSE AS is_early
  FROM walked),
users AS MATERIALIZED (
  SELECT user_id, count(*) AS entries, max(seq) AS newest, sum(amount) AS tokens,
    jsonb_agg(to_jsonb(j)) FILTER (WHERE is_gap OR is_out OR is_off OR is_early) AS bad
  FROM judged j GROUP BY user_id),
books AS MATERIALIZED (
  SELECT coalesce(a.user_id, u.user_id) AS user_id, a.user_id IS NULL AS is_orphan, a.balance, a.last_seq,
    coalesce(u.entries, 0) AS entries, coalesce(u.newest, 0) AS newest, coalesce(u.tokens, 0) AS tokens, u.bad
  FROM (SELECT user_id, balance, last_seq FROM {accounts} WHERE {only}) a FULL JOIN users u USING (user_id)),
tallied AS MATERIALIZED (
  SELECT batch_id, kind, count(*) AS entries, sum(amount) AS tokens FROM {entries} WHERE {only} GROUP BY 1, 2),
reversals AS MATERIALIZED (
  SELECT r.user_id, r.seq, r.reverses_seq, r.amount, r.kind, o.amount AS reversed_amount, o.kind AS reversed_kind,
    count(*) OVER (PARTITION BY r.user_id, r.reverses_seq) AS times
  FROM (SELECT * FROM {entries} WHERE reverses_seq IS NOT NULL AND {only}) r
  LEFT JOIN {entries} o ON o.user_id = r.user_id AND o.seq = r.reverses_seq),
held AS MATERIALIZED (
  SELECT h.user_id, h.hold_id, h.amount, h.state, h.expires_at, h.settled_at, h.captured_seq,
    c.seq AS entry_seq, c.amount AS entry_amount, c.kind AS entry_kind,
    count(*) OVER (PARTITION BY h.user_id, h.captured_seq) AS captures
  FROM (SELECT * FROM {holds} WHERE {only}) h
  LEFT JOIN {entries} c ON c.user_id = h.user_id AND c.seq = h.captured_seq),
findings AS MATERIALIZED (
  SELECT f.rule, b.user_id, (r ->> 'seq')::bigint AS seq, r AS detail
  FROM books b CROSS JOIN jsonb_array_elements(b.bad) r
  CROSS JOIN LATERAL (VALUES
    ('seq-gap', (r ->> 'is_gap')::boolean),
    ('amount-range', (r ->> 'is_out')::boolean),
    -- After a gap the entry before is unknown, and so is what the sum should be.
    ('running-sum', (r ->> 'is_off')::boolean AND NOT (r ->> 'is_gap')::boolean AND NOT (r ->> 'is_out')::boolean),
    ('time-order', (r ->> 'is_early')::boolean)) AS f(rule, holds)
  WHERE b.bad IS NOT NULL AND f.holds
  UNION ALL
  SELECT f.rule, b.user_id, NULL, jsonb_build_object('balance', b.balance, 'last_seq', b.last_seq, 'entries', b.entries,
    'newest', b.newest, 'tokens', b.tokens)
  FROM books b
  CROSS JOIN LATERAL (VALUES
    ('no-account', b.is_orphan),
    ('balance', b.balance <> b.tokens),
    ('last-seq', b.last_seq <> b.entries)) AS f(rule, holds)
  WHERE f.holds
  UNION ALL
  SELECT 'sealed-cut', c.user_id, c.sealed, jsonb_build_object('last_seq', c.last_seq)
  FROM changed c WHERE c.sealed > c.last_seq AND {only}
  UNION ALL
  SELECT f.rule, r.user_id, r.seq, to_jsonb(r)
  FROM reversals r
  CROSS JOIN LATERAL (VALUES
    ('reversal-of-nothing', r.reversed_amount IS NULL OR r.reverses_seq >= r.seq),
    ('reversal-unpaired', r.reversed_amount::numeric + r.amount <> 0 OR r.reversed_kind <> r.kind),
    ('reversed-twice', r.times > 1)) AS f(rule, holds)
  WHERE f.holds
  UNION ALL
  SELECT f.rule, h.user_id, h.captured_seq, to_jsonb(h)
  FROM held h
  CROSS JOIN LATERAL (VALUES
    -- A capture spends what was held, or less.
    ('hold-captured', h.captured_seq IS NOT NULL AND (h.entry_seq IS NULL OR h.entry_kind <> 'generation'
      OR h.entry_amount >= 0 OR h.entry_amount < -h.amount OR h.captures > 1)),
    ('hold-state', h.state NOT IN ('open', 'captured', 'released') OR (h.state = 'captured') <> (h.captured_seq IS NOT NULL)
      OR (h.state = 'open') <> (h.settled_at IS NULL))) AS f(rule, holds)
  WHERE f.holds
  UNION ALL
  -- Only the capture of a hold posts such an entry.
  SELECT 'paid-without-hold', t.user_id, t.seq, jsonb_build_object('amount', t.amount)
  FROM (SELECT user_id, seq, amount FROM {entries} WHERE kind = 'generation' AND reverses_seq IS NULL AND {only}) t
  WHERE NOT EXISTS (SELECT FROM held h WHERE h.user_id = t.user_id AND h.captured_seq = t.seq)
  UNION ALL
  -- By the clock of now and not of the snapshot: whoever spent what a hold had held found
  -- it past its deadline, and by now it is so even more.
  SELECT CASE WHEN b.user_id IS NULL OR b.is_orphan THEN 'hold-of-nobody' ELSE 'held-too-much' END, o.user_id, NULL,
    jsonb_build_object('balance', b.balance, 'held', o.held)
  FROM (SELECT user_id, sum(amount) FILTER (WHERE state = 'open' AND expires_at > clock_timestamp()) AS held FROM held GROUP BY 1) o
  LEFT JOIN books b USING (user_id)
  WHERE b.user_id IS NULL OR b.is_orphan OR b.balance < o.held
  UNION ALL
  -- Rows against the batch that they name, as far as it is in this partition. A slice that is to be judged
  -- again is pending and counts what it has posted.
  SELECT CASE WHEN b.batch_id IS NULL THEN 'batch-unknown' ELSE 'batch-rows' END, NULL, NULL,
    jsonb_build_object('batch', batch_id, 'part', {part}::integer, 'entries', t.entries, 'tokens', t.tokens,
      'applied', l.applied, 'applied_tokens', l.applied_tokens)
  FROM (SELECT batch_id, sum(entries) AS entries, sum(tokens) AS tokens FROM tallied WHERE batch_id IS NOT NULL GROUP BY 1) t
  FULL JOIN (
    SELECT batch_id, sum(applied) AS applied, sum(applied_tokens) AS applied_tokens
    FROM tokenctl.import_lanes WHERE part = {part} GROUP BY 1 HAVING sum(applied) <> 0) l USING (batch_id)
  LEFT JOIN tokenctl.import_batches b USING (batch_id)
  WHERE {whole} AND (b.batch_id IS NULL OR (t.entries, t.tokens) IS DISTINCT FROM (l.applied, l.applied_tokens)))
SELECT
  (SELECT count(*) FROM books) AS users,
  (SELECT coalesce(sum(entries), 0)::bigint FROM books) AS entries,
  (SELECT coalesce(sum(balance), 0) FROM books) AS balances,
  (SELECT coalesce(jsonb_object_agg(kind, tokens), '{{}}') FROM (SELECT kind, sum(tokens) AS tokens FROM tallied GROUP BY 1) k) AS funds,
  (SELECT coalesce(jsonb_object_agg(rule, n), '{{}}') FROM (SELECT rule, count(*) AS n FROM findings GROUP BY 1) r) AS counts,
  (SELECT coalesce(jsonb_agg(to_jsonb(f)), '[]') FROM (SELECT * FROM findings ORDER BY user_id, seq, rule LIMIT 100) f) AS findings
