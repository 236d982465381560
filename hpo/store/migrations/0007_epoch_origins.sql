-- Revision 7: each epoch has its worker, its device seconds and its time.

ALTER TABLE hpo.epoch ADD COLUMN worker text, ADD COLUMN seconds double precision, ADD COLUMN at timestamp with time zone;
-- Apart from the column: epochs that are on record already have no known time.
ALTER TABLE hpo.epoch ALTER COLUMN at SET DEFAULT clock_timestamp();
COMMENT ON COLUMN hpo.epoch.worker IS 'the worker that reported the epoch';
COMMENT ON COLUMN hpo.epoch.seconds IS 'the trial''s share of the device seconds of training and evaluation';
COMMENT ON COLUMN hpo.epoch.at IS 'the time of the record, null for epochs from before this column';
