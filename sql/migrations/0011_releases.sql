-- Who released a hold, and in which run: whoever finds it released is told by whom, and a run
-- whose answer was lost knows its own release again.
ALTER TABLE tokenctl.generations
  ADD COLUMN released_by         text COLLATE "C",
  ADD COLUMN released_claimed_by text COLLATE "C",
  ADD COLUMN released_run        text COLLATE "C";

-- It takes whether only what is past its deadline is meant as well now (100_generations.sql).
DROP FUNCTION IF EXISTS tokenctl.generation_release_v1(text, text, text, boolean, text, text, text);
