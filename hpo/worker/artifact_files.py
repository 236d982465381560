"""The files of a study in its artifact store."""

from collections.abc import Callable
from functools import partial
from pathlib import PurePath

from hpo.values.stage import STAGES, Stage
from hpo.worker.checkpointer import Checkpointer
from hpo.worker.context import WorkerContext
from hpo.worker.pack_writer import FileCleanup
from hpo.worker.trial_files import TrialFiles


class ArtifactFiles:
    """Checkpoints within a share of the time, and the deletion of files that no trial needs."""

    def __init__(self, context: WorkerContext) -> None:
        runtime = context.runtime
        self._files = TrialFiles(context.settings.artifacts)
        self._checkpointers = {
            stage: Checkpointer(self._files, stage, runtime.clock, runtime.limits.checkpoints)
            for stage in STAGES
        }

    def checkpoints(self, stage: Stage) -> Checkpointer:
        """Return the checkpoints of a stage, the same object each time."""
        return self._checkpointers[stage]

    def cleanup(self, stage: Stage) -> FileCleanup:
        """Return the callbacks for files that no trial of the stage needs any more."""
        return FileCleanup(partial(self._files.delete_checkpoints_of, stage), self._files.delete_checkpoints)

    def sweep(self, in_use: Callable[[], set[str] | None]) -> None:
        """Delete files left by killed workers and by workers that lost their trials.

        Nothing is deleted while a trial is running, since its worker may write.
        """
        leftovers = self._files.leftovers()  # first, so that no later file is among them
        if leftovers and (needed := in_use()) is not None:
            self._files.sweep(name for name in leftovers if PurePath(name).name not in needed)
