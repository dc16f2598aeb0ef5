-- Whether the server keeps what it has confirmed.
SELECT
  current_setting('fsync')::boolean AS fsync,
  current_setting('full_page_writes')::boolean AS full_page_writes,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('data_checksums')::boolean AS data_checksums,
  current_setting('synchronous_standby_names') AS synchronous_standby_names,
  (SELECT count(*) FROM pg_stat_get_wal_senders() WHERE coalesce(state, 'streaming') <> 'backup') AS standbys
