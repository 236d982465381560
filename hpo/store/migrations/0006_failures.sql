-- Revision 6: failures do not spread.

ALTER TABLE hpo.trial ADD COLUMN alone boolean NOT NULL DEFAULT false, ADD COLUMN retry_of integer;
COMMENT ON COLUMN hpo.trial.alone IS 'whether the trial gets no pack mates: a pack with it has raised or timed out';
COMMENT ON COLUMN hpo.trial.retry_of IS 'the number of the failed trial that this one repeats';

ALTER TABLE hpo.worker ADD COLUMN quiet_since timestamp with time zone;
COMMENT ON COLUMN hpo.worker.quiet_since IS 'the start of its pack or its last epoch, null without a pack';
