-- What a reversal leaves out is marked when it is planned (075_reversals.sql, reversal_leave_out_v1), and no
-- longer asked for twice. Of databases that tried tokenctl before its first release.
DROP FUNCTION IF EXISTS tokenctl.reversal_missing_v1(text, integer);
DROP FUNCTION IF EXISTS tokenctl.reversal_overflows_v1(text, integer);
