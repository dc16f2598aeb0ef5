-- What has been applied to this database: migrations, and function files by checksum.
SELECT
  (SELECT coalesce(max(version), 0) FROM tokenctl.schema_migrations) AS version,
  (SELECT coalesce(jsonb_object_agg(version, checksum), '{}') FROM tokenctl.schema_migrations) AS migrations,
  (SELECT coalesce(jsonb_object_agg(name, checksum), '{}') FROM tokenctl.schema_functions) AS functions
