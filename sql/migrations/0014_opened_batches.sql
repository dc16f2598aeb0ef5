-- Who has an unfinished batch open, from its opening to its posting: a dry run, or a run that is declined or dies
-- before it posts, leaves no name where those of whoever posted stand. Keys operator, claimed_by, request_id.
ALTER TABLE tokenctl.import_batches ADD COLUMN opened_as jsonb,
  ADD CONSTRAINT batch_opened_unfinished CHECK (opened_as IS NULL OR state = 'applying');
