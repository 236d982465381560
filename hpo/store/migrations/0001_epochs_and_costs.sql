-- Revision 1. Its tables of leases and workers are not made any more: revision 2 replaced them.

CREATE SCHEMA IF NOT EXISTS hpo;

-- Lease tokens: each is higher than all before it.
CREATE SEQUENCE IF NOT EXISTS hpo.token AS bigint;

CREATE TABLE IF NOT EXISTS hpo.epoch (
    trial_id integer NOT NULL REFERENCES trials (trial_id) ON DELETE CASCADE,
    epoch integer NOT NULL,
    train_loss double precision NOT NULL,
    validation_loss double precision NOT NULL,
    validation_accuracy double precision NOT NULL,
    PRIMARY KEY (trial_id, epoch)
);
COMMENT ON TABLE hpo.epoch IS 'The metrics of each epoch. Optuna''s intermediate values have room for one of them.';

CREATE TABLE IF NOT EXISTS hpo.cost (
    trial_id integer NOT NULL REFERENCES trials (trial_id) ON DELETE CASCADE,
    activity text NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (trial_id, activity)
);
COMMENT ON TABLE hpo.cost IS 'Device seconds of each trial, by activity. The members of a pack share its seconds.';
