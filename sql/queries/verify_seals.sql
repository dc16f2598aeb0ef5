-- The chain of seals, the oldest first, each with what its ranges come to today.
-- up_to: bigint, the last seal whose ranges are counted
SELECT seal_no, s.previous, s.head, s.content, s.users, s.entries, s.tokens,
  CASE WHEN s.sealed_at BETWEEN '0001-01-01Z' AND '9999-12-31Z' THEN (extract(epoch FROM s.sealed_at) * 1000000)::bigint END AS sealed_at_us,
  s.operator, s.claimed_by, s.request_id, c.content AS found_content, c.users AS found_users, c.entries AS found_entries, c.tokens AS found_tokens
FROM (SELECT * FROM tokenctl.seals WHERE seal_no <= %(up_to)s) s
FULL JOIN (
  SELECT p.seal_no, encode(sha256(string_agg(p.page_sha256, ''::bytea ORDER BY p.page)), 'hex') AS content,
    sum(p.users) AS users, sum(p.entries) AS entries, sum(p.tokens) AS tokens
  FROM (
    SELECT r.seal_no, r.page, sha256(string_agg(r.rows_sha256, ''::bytea ORDER BY r.user_id COLLATE "C", r.last_seq)) AS page_sha256,
      count(*) FILTER (WHERE r.is_first) AS users, sum(r.last_seq - r.first_seq + 1) AS entries, sum(r.tokens) AS tokens
    FROM (
      SELECT i.*, (row_number() OVER run - 1) / 1000000 AS page, lag(i.user_id) OVER run IS DISTINCT FROM i.user_id AS is_first
      FROM tokenctl.sealed_ranges i WHERE i.seal_no <= %(up_to)s
      WINDOW run AS (PARTITION BY i.seal_no ORDER BY i.user_id COLLATE "C", i.last_seq)) r
    GROUP BY r.seal_no, r.page) p
  GROUP BY p.seal_no) c USING (seal_no)
ORDER BY seal_no
