-- It answers one thing more now (075_reversals.sql). Of databases that tried tokenctl before its first release.
DROP FUNCTION IF EXISTS tokenctl.reversal_stage_v1(text, integer);
