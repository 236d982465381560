"""One process on one device that claims trials, trains them and reports, until the budget is spent."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from data.device import DeviceImages
from hpo.claim import LeasedTrial, claim, is_finished
from hpo.epoch import EpochResult
from hpo.errors import StorageError, TrainingError
from hpo.pack import Candidate
from hpo.promotion import promote
from hpo.renewal import Renewal
from hpo.reporter import Reporter
from hpo.seeds import mixed
from hpo.storage import Storage
from hpo.study import Stage, Study
from hpo.trainer import Trainer, Training
from hpo.weights import save_weights
from hpo.workload import Workload

log = logging.getLogger("hpo.worker")

WIDTH = 16
"""Trials in a pack: beyond it the five small networks gain little on a CPU."""

IDLE_SECONDS = 0.5
"""How long a worker with nothing to claim waits before it looks again: others may still lose a trial."""

TELL_SECONDS = 15.0
"""How often a worker says how far its pack is."""

MOST_FAILURES = 3
"""So many packs in a row that raise end the worker: the fault is then not one trial's."""


class Stopped(BaseException):
    """Raised in the training loop when the process was told to stop."""


@dataclass
class Worker:
    """Serves one study on one device.

    `width`: the most trials it trains as one pack. `promotes`: whether it queues the best trials for full
    training itself, once the search is finished.
    """

    storage: Storage
    study: Study
    workload: Workload
    name: str
    device: str
    artifacts: Path
    width: int = WIDTH
    promotes: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.monotonic
    _tell_next: float = 0.0
    _interruptible: bool = False
    _failures: int = 0
    _images: dict[Stage, tuple[DeviceImages, DeviceImages]] = field(default_factory=dict)

    def run(self) -> None:
        """Works until no trial of the study is open, or it is told to stop.

        Raises `TrainingError` after `MOST_FAILURES` packs in a row that raised.
        """
        with Renewal(self.storage, self.study, self.name, self.device) as renewal:
            while not self.stop.is_set():
                # Asked before the claims: a search that ends after them is looked at once more.
                searched = is_finished(self.storage, self.study, "search")
                if searched and self.promotes:
                    promote(self.storage, self.study)
                stage, trials = self._claim()
                if trials:
                    with renewal.of([trial.lease for trial in trials]):
                        self._train(stage, trials)
                elif searched and is_finished(self.storage, self.study, "full"):
                    break
                else:
                    self.stop.wait(IDLE_SECONDS)

    def listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _signal, _frame: self.stop_now())

    def stop_now(self) -> None:
        """Training is cut off where it stands; a transaction is let finish, and the flag ends the loop."""
        self.stop.set()
        if self._interruptible:
            self._interruptible = False
            raise Stopped

    def _claim(self) -> tuple[Stage, list[LeasedTrial]]:
        trials = claim(self.storage, self.study, "search", self.name, self.width)
        if trials:
            return "search", trials
        return "full", claim(self.storage, self.study, "full", self.name, self.width)

    def _train(self, stage: Stage, trials: Sequence[LeasedTrial]) -> None:
        size = int(trials[0].point["batch_size"])
        numbers = ", ".join(str(trial.number) for trial in trials)
        self._tell_next = self.clock() + TELL_SECONDS
        log.info("%s: training %s (batch size %d, pack of %d)", stage, numbers, size, len(trials))
        training: Training | None = None

        def save(trial: LeasedTrial) -> Mapping[str, Any]:
            if stage == "search" or training is None:
                return {}
            return {"weights": save_weights(self._weights_folder, trial, training.weights(trial.number))}

        reporter = Reporter(
            self.storage, self.study, stage, trials, {"worker": self.name, "device": self.device}, save
        )
        try:
            training = self._trainer(stage, size).start({t.number: _candidate(t) for t in trials})
            while training.members and not self.stop.is_set():
                self._interruptible = True
                results = training.epoch()
                self._interruptible = False
                self._tell(stage, results)
                training.drop(reporter.report(results))
            if self.stop.is_set():
                reporter.release()
            self._failures = 0
        except Stopped:
            reporter.release()
        except StorageError:
            raise  # no fault of the trials: they are free again when the leases end, or this process
        except Exception as error:
            self._interruptible = False
            self._failures += 1
            log.exception("%s: training %s failed", stage, numbers)
            reporter.fail(error)
            if self._failures == MOST_FAILURES:
                raise TrainingError(f"{self._failures} packs in a row failed; the last: {error}") from error

    def _tell(self, stage: Stage, results: Sequence[EpochResult]) -> None:
        """A line on how long trainings go, now and then."""
        if self.clock() < self._tell_next:
            return
        self._tell_next = self.clock() + TELL_SECONDS
        losses = (f"{r.member} epoch {r.epoch} loss {r.validation_loss:.4f}" for r in results)
        log.info("%s: %s", stage, ", ".join(losses))

    @property
    def _weights_folder(self) -> Path:
        return self.study.artifacts(self.artifacts)

    def _trainer(self, stage: Stage, batch_size: int) -> Trainer:
        if stage not in self._images:
            self._images = {stage: self.workload.images(stage, self.device)}
        train, validation = self._images[stage]
        spec = self.study.spec
        return Trainer(
            self.workload.factory,
            train,
            validation,
            spec.budget(stage),
            batch_size,
            seed=mixed(spec.seed, 3),
            device=torch.device(self.device),
        )


def _candidate(trial: LeasedTrial) -> Candidate:
    point = trial.point
    return Candidate(point["lr"], point["momentum"], point["weight_decay"], trial.seed)
