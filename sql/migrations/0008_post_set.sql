-- It takes a condition on the accounts as well now (070_import_apply.sql).
DROP FUNCTION IF EXISTS tokenctl.post_set(integer, text, text, bigint, boolean, text, text, text);
