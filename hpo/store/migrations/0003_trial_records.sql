-- Revision 3: a table for what hpo records of a trial. Optuna's user attributes become a copy of it.

CREATE TABLE hpo.trial (
    trial_id integer NOT NULL PRIMARY KEY REFERENCES trials (trial_id) ON DELETE CASCADE,
    seed bigint NOT NULL,
    promoted_from integer,
    forked_from integer,
    paused integer,
    takeovers integer NOT NULL DEFAULT 0,
    worker text,
    device text,
    epochs integer,
    kept_epoch integer,
    metrics jsonb,
    weights text,
    reason text,
    traceback text
);
COMMENT ON TABLE hpo.trial IS 'What Optuna has no place for. A trial without a row was added by another program.';
COMMENT ON COLUMN hpo.trial.promoted_from IS 'the number of the search trial that a full training repeats';
COMMENT ON COLUMN hpo.trial.forked_from IS 'the number of the original in the study that was forked';
COMMENT ON COLUMN hpo.trial.paused IS 'the epoch after which the trial was paused, null unless it is paused';
COMMENT ON COLUMN hpo.trial.worker IS 'the worker that paused or ended the trial last';
COMMENT ON COLUMN hpo.trial.metrics IS 'of the kept epoch; null unless hpo trained the trial to its end';
COMMENT ON COLUMN hpo.trial.weights IS 'a file in the study''s artifact folder';
COMMENT ON COLUMN hpo.trial.reason IS 'why the trial failed';

-- Attributes are JSON as Python writes it, and any program may write them. Odd values count as absent.
CREATE FUNCTION hpo.parsed(value text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN value::jsonb;
EXCEPTION WHEN others THEN
    RETURN NULL;
END $$;

-- Doubles are written with all of their digits, whatever the settings of the role are.
SET LOCAL extra_float_digits = 3;

WITH parsed AS (
    SELECT trials.trial_id, trials.state, key, value
    FROM trial_user_attributes
    CROSS JOIN hpo.parsed(value_json) AS value
    JOIN trials USING (trial_id)
    WHERE trials.study_id IN (SELECT study_id FROM study_user_attributes WHERE key = 'hpo:spec')
), typed AS (
    -- Nine digits fit into the columns. Seeds have up to ten.
    SELECT trial_id, state, key,
        CASE WHEN value::text ~ '^\d{1,9}$' THEN value::text::integer END AS whole,
        CASE WHEN value::text ~ '^\d{1,18}$' THEN value::text::bigint END AS long,
        CASE jsonb_typeof(value) WHEN 'number' THEN value END AS number,
        CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{}' END AS string
    FROM parsed
), record AS (
    SELECT trial_id,
        max(long) FILTER (WHERE key = 'seed') AS seed,
        max(whole) FILTER (WHERE key = 'promoted_from') AS promoted_from,
        max(whole) FILTER (WHERE key = 'forked_from') AS forked_from,
        max(whole) FILTER (WHERE key = 'hpo:paused' AND state IN ('WAITING', 'RUNNING')) AS paused,
        max(whole) FILTER (WHERE key = 'takeovers') AS takeovers,
        max(string) FILTER (WHERE key = 'worker') AS worker,
        max(string) FILTER (WHERE key = 'device') AS device,
        max(whole) FILTER (WHERE key = 'epochs') AS epochs,
        max(whole) FILTER (WHERE key = 'kept_epoch') AS kept_epoch,
        jsonb_agg(number) FILTER (WHERE key = 'accuracy') -> 0 AS accuracy,
        max(string) FILTER (WHERE key = 'weights') AS weights,
        max(string) FILTER (WHERE key = 'reason') AS reason,
        max(string) FILTER (WHERE key = 'traceback') AS traceback
    FROM typed
    GROUP BY trial_id
)
INSERT INTO hpo.trial
SELECT record.trial_id, seed, promoted_from, forked_from, paused, coalesce(lease.takeovers, record.takeovers, 0),
    record.worker, device, epochs, kept_epoch,
    CASE jsonb_typeof(accuracy) WHEN 'number' THEN
        jsonb_strip_nulls(jsonb_build_object(
            'train_loss', epoch.train_loss,
            'validation_loss', coalesce(epoch.validation_loss, trial_values.value),
            'validation_accuracy', accuracy
        ))
    END,
    weights, reason, traceback
FROM record
LEFT JOIN hpo.lease ON lease.trial_id = record.trial_id
LEFT JOIN trial_values ON trial_values.trial_id = record.trial_id AND trial_values.objective = 0
LEFT JOIN hpo.epoch ON epoch.trial_id = record.trial_id AND epoch.epoch = record.kept_epoch
WHERE seed IS NOT NULL;

DROP FUNCTION hpo.parsed;
DELETE FROM trial_user_attributes
WHERE key = 'hpo:paused' AND trial_id IN (SELECT trial_id FROM hpo.trial);
ALTER TABLE hpo.lease DROP COLUMN takeovers;
