-- Who holds a lock, by login and by what the program calls itself; both are for every role to see.
-- This command's own connections, which share a name with its request id, are left out.
-- An account's row names the transaction that locked it last, the others are advisory locks.
-- account: text or NULL; part: bigint or NULL, a partition that is posted to; batches: text[]
SELECT DISTINCT s.usename::text, s.application_name
FROM pg_locks l JOIN pg_stat_activity s USING (pid)
WHERE l.granted AND s.application_name <> current_setting('application_name') AND (
  l.locktype = 'transactionid' AND l.transactionid = (SELECT xmax FROM tokenctl.token_accounts WHERE user_id = %(account)s::text)
  OR l.locktype = 'advisory' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND (
    l.objsubid = 2 AND l.classid::bigint = (hashtext('tokenctl partition')::bigint & 4294967295) AND l.objid::bigint = %(part)s::bigint
    OR l.objsubid = 1 AND ((l.classid::bigint << 32) | l.objid::bigint) = ANY (
      SELECT hashtextextended('tokenctl import ' || b, 0) FROM unnest(%(batches)s::text[]) b)))
ORDER BY 1, 2 LIMIT 3
