"""Whether a stage is finished, and which files a study still needs."""

from hpo.store import checkpoints, studies, trials
from hpo.store.connection import Storage
from hpo.study import lifecycle, refits
from hpo.study.promote import best_trials
from hpo.study.stored import refresh
from hpo.study.study import Study
from hpo.values.stage import STAGES, Stage


def is_finished(storage: Storage, study: Study, stage: Stage) -> bool:
    """Return whether no trial is open and, in the search, no trial remains to be suggested.

    A stopped stage is finished once no begun trial is open. If a rule stopped it, paused trials count as
    begun, because the next claim prunes them.
    """
    study_id = study.study_id(stage)
    with storage.transaction() as connection:
        study = refresh(connection, study)
        if (stopped := lifecycle.read_stopped(connection, study, stage)) is not None:
            # Count begun trials before paused ones: a running trial may pause between the two queries.
            is_quiet = trials.count_begun(connection, study_id) == 0
            return is_quiet and not (stopped.by == "rule" and trials.paused(connection, study_id))
        # Count all trials before open ones: once all trials exist, none is added between the two queries.
        if stage == "search" and trials.count(connection, study_id) < study.trials:
            return False
        return trials.count(connection, study_id, trials.OPEN) == 0


def is_done(storage: Storage, study: Study) -> bool:
    """Return whether resuming a stopped study would train nothing: no trial is open, and no refit is due."""
    with storage.transaction() as connection:
        study = refresh(connection, study)
        if trials.count(connection, study.search_id) < study.trials:
            return False
        if any(trials.count(connection, study.study_id(stage), trials.OPEN) for stage in STAGES):
            return False
        trainings = trials.read(connection, study.full_id).ours
        ranked = best_trials(trainings, len(trainings), study.objective)
        return bool(trainings) and not refits.due(study, trainings, ranked)


def files_in_use(storage: Storage, study: Study) -> set[str] | None:
    """Return the files to keep: weights of full trainings and checkpoints of paused trials.

    None while a begun trial may still write files.
    """
    with storage.transaction() as connection:
        for stage in STAGES:
            studies.lock(connection, study.study_id(stage))
            if trials.count_begun(connection, study.study_id(stage)):
                return None
        rows = trials.read(connection, study.full_id).ours
        paused = checkpoints.read(connection, trials.paused(connection, study.search_id))
    weights = {row.record.weights for row in rows if row.record.weights is not None}
    return weights | {checkpoint.file for checkpoint in paused.values()}
