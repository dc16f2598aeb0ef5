-- How the server is, in one row, from what every role may see. For a role without
-- pg_monitor other sessions' kinds are NULL, and so are a standby's state and lag. Where
-- the ledger's roles are still to be made, nobody is only a reader.
SELECT
  pg_is_in_recovery() AS in_recovery,
  current_setting('transaction_read_only')::boolean AS read_only,
  coalesce(pg_has_role(session_user, to_regrole('tokenctl_support'), 'USAGE'), true)
    OR coalesce(pg_has_role(session_user, to_regrole('tokenctl_batch'), 'USAGE'), true) AS writer,
  (SELECT count(*) FROM pg_stat_get_activity(NULL) a
   WHERE a.datid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend') AS connections,
  current_setting('max_connections')::integer AS max_connections,
  w.standbys, w.lag_s, w.lag_hidden,
  (SELECT a.sslversion FROM pg_stat_get_activity(pg_backend_pid()) a) AS tls
FROM (
  SELECT count(*) AS standbys, extract(epoch FROM max(replay_lag))::float8 AS lag_s,
    coalesce(bool_or(state IS NULL), false) AS lag_hidden
  FROM pg_stat_get_wal_senders() WHERE coalesce(state, 'streaming') <> 'backup') w
