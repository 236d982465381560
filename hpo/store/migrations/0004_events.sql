-- Revision 4: what happened to the trials of a study.

CREATE TABLE hpo.event (
    study_id integer NOT NULL,
    event_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
    trial_id integer NOT NULL REFERENCES trials (trial_id) ON DELETE CASCADE,
    worker text,
    kind text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (study_id, event_id)
);
CREATE INDEX event_trial_id ON hpo.event (trial_id);
COMMENT ON TABLE hpo.event IS 'What happened to trials, written in the transaction that did it. Only added to.';
COMMENT ON COLUMN hpo.event.study_id IS
    'of the trial, for reads in order. Not a reference: its check would wait for claims, which lock the study.';
COMMENT ON COLUMN hpo.event.at IS
    'the time of the write, not of its transaction, which may have waited for a lock while others wrote';
