-- A slice is the users from one on, up to the first of the next slice, and no longer those
-- with one hash: neighbours in the indexes, so that posting it touches few of their pages.
ALTER TABLE tokenctl.import_lanes ADD COLUMN from_user text COLLATE "C";

-- Of databases that tried tokenctl before its first release.
DROP FUNCTION IF EXISTS tokenctl.slice_of(integer);
DROP FUNCTION IF EXISTS tokenctl.post_set(integer, text, bigint, boolean, text, text, text);
