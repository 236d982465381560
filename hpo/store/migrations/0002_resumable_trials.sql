-- Revision 2: trials resume from checkpoints, and leases record takeovers and losses.

-- The leases and workers of revision 1 hold nothing that lasts. Without a lease a running trial counts as lost.
DROP TABLE IF EXISTS hpo.lease, hpo.worker;

CREATE TABLE hpo.lease (
    trial_id integer NOT NULL PRIMARY KEY REFERENCES trials (trial_id) ON DELETE CASCADE,
    worker text,
    token bigint NOT NULL,
    seconds double precision NOT NULL,
    expires timestamp with time zone NOT NULL,
    takeovers integer NOT NULL DEFAULT 0,
    losses integer NOT NULL DEFAULT 0,
    durable integer NOT NULL DEFAULT 0
);
COMMENT ON TABLE hpo.lease IS 'The right of one worker to one open trial, until a time by this database''s clock.';
COMMENT ON COLUMN hpo.lease.worker IS 'null while no worker has the trial';
COMMENT ON COLUMN hpo.lease.seconds IS 'the time to expiry after a renewal';
COMMENT ON COLUMN hpo.lease.losses IS 'lost workers in a row, without a new checkpoint in between';
COMMENT ON COLUMN hpo.lease.durable IS 'the epoch of the checkpoint when the lease was granted, 0 without one';

CREATE TABLE IF NOT EXISTS hpo.checkpoint (
    trial_id integer NOT NULL PRIMARY KEY REFERENCES trials (trial_id) ON DELETE CASCADE,
    epoch integer NOT NULL,
    file text NOT NULL
);
COMMENT ON TABLE hpo.checkpoint IS 'The newest checkpoint of an open trial: a file in the study''s artifact folder.';

CREATE TABLE IF NOT EXISTS hpo.overhead (
    study_id integer NOT NULL REFERENCES studies (study_id) ON DELETE CASCADE,
    activity text NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (study_id, activity)
);
COMMENT ON TABLE hpo.overhead IS 'Device seconds of a study''s workers that belong to no trial, by activity.';

CREATE TABLE IF NOT EXISTS hpo.delivery (
    worker text NOT NULL PRIMARY KEY,
    number bigint NOT NULL
);
COMMENT ON TABLE hpo.delivery IS 'The last recorded report of each worker. A report that comes again adds nothing.';

CREATE TABLE hpo.worker (
    name text NOT NULL PRIMARY KEY,
    study text NOT NULL,
    device text NOT NULL,
    started timestamp with time zone NOT NULL DEFAULT now(),
    expires timestamp with time zone NOT NULL
);
COMMENT ON TABLE hpo.worker IS 'The worker processes, and the time until which each counts as alive.';
