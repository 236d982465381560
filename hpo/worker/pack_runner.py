"""Train one pack after another, and handle each kind of failure."""

import logging
from collections.abc import Sequence
from functools import partial

import torch

from hpo.errors import HpoError, TrainingError
from hpo.study.schedule import LeasedTrial
from hpo.training.memory import is_broken, is_out_of_memory, is_taken_by_others, memory_used
from hpo.values.epoch import EpochResult
from hpo.values.parameters import PackKey, describe, pack_key
from hpo.values.stage import STAGES, Stage
from hpo.worker.checkpointer import Checkpointer
from hpo.worker.claims import Claims
from hpo.worker.context import WorkerContext
from hpo.worker.lease_renewal import LeaseRenewal
from hpo.worker.outbox import Outbox
from hpo.worker.overhead import OverheadClock
from hpo.worker.pack_writer import FileCleanup
from hpo.worker.report_target import ReportTarget
from hpo.worker.reporter import Reporter
from hpo.worker.trainers import TrainerFactory
from hpo.worker.trial_loop import LoopServices, PackSettings, TrialLoop

log = logging.getLogger("hpo.worker")


class PackRunner:
    """Trains packs. A pack that runs out of memory is halved; code that raises fails the pack's trials."""

    def __init__(
        self,
        context: WorkerContext,
        claims: Claims,
        trainers: TrainerFactory,
        outbox: Outbox,
        overhead: OverheadClock,
    ) -> None:
        self._context, self._settings, self._runtime = context, context.settings, context.runtime
        self._clock, self._limits = context.runtime.clock, context.runtime.limits
        self._claims, self._trainers, self._outbox, self._overhead = claims, trainers, outbox, overhead
        self._checkpointers = {
            stage: Checkpointer(context.files, stage, self._clock, self._limits.checkpoints)
            for stage in STAGES
        }
        self._failures = 0
        self._next_log = 0.0

    def run(self, stage: Stage, trials: Sequence[LeasedTrial], renewal: LeaseRenewal) -> None:
        """Train these trials of one pack key until all of them have ended or are released.

        Raises `TrainingError` after `max_failures` packs in a row that raised. An error that breaks the
        process or the device propagates.
        """
        key = pack_key(trials[0].point)
        titles = ", ".join(map(_title, trials))
        self._next_log = self._clock() + self._limits.log_seconds
        log.info("%s: training %s (%s, pack of %d)", stage, titles, describe(key), len(trials))
        reporter = self._reporter(stage)
        reporter.add(trials)
        loop: TrialLoop | None = None
        out_of_memory = False
        with renewal.renewing(lambda: reporter.leases):
            try:
                loop = self._loop(stage, key, trials, reporter)
                loop.run()
                self._failures = 0
            except HpoError:
                raise  # not the trials' fault: they are free once their leases expire or this process ends
            except Exception as error:
                out_of_memory = is_out_of_memory(error)
                if is_broken(error) or (out_of_memory and loop is None):
                    raise  # this process cannot compute any more; another one takes over
                if out_of_memory and loop is not None:
                    self._handle_out_of_memory(error, (stage, key), loop, reporter)
                else:
                    members = [trial.number for trial in trials] if loop is None else loop.members
                    self._fail(error, stage, members, reporter)
            finally:
                reporter.close()
                self._overhead.exclude(reporter.charged)
        del loop
        if out_of_memory and torch.device(self._settings.device).type == "cuda":
            torch.cuda.empty_cache()  # only now: the exception held on to what had been allocated

    def _reporter(self, stage: Stage) -> Reporter:
        files, settings = self._context.files, self._settings
        return Reporter(
            ReportTarget(self._context.storage, self._context.study, stage, settings.name, settings.device),
            self._outbox,
            FileCleanup(partial(files.delete_checkpoints_of, stage), files.delete_checkpoints),
            self._clock,
            self._limits.loop.answer_seconds,
        )

    def _loop(
        self, stage: Stage, key: PackKey, trials: Sequence[LeasedTrial], reporter: Reporter
    ) -> TrialLoop:
        services = LoopServices(
            reporter,
            self._outbox,
            self._checkpointers[stage],
            partial(self._claims.claim_more, stage, key),
            partial(self._log_progress, stage),
        )
        pack = PackSettings(stage, self._claims.width(stage, key), self._settings.fills_packs)
        return TrialLoop(self._trainers.make(stage, key), trials, pack, services, self._runtime)

    def _handle_out_of_memory(
        self, error: Exception, kind: tuple[Stage, PackKey], loop: TrialLoop, reporter: Reporter
    ) -> None:
        """Put the trials back into the queue as of their last whole epoch, and halve later packs.

        A trial that does not fit alone fails. Raises `TrainingError` instead if other processes fill the
        device: then the fault is not the trial's. `kind`: stage and pack key of the pack.
        """
        (stage, key), device = kind, self._settings.device
        used, width = memory_used(device), loop.width
        if width > 1:
            self._claims.limit_width(stage, key, width // 2)
            log.warning(
                "%s: a pack of %d at %s does not fit into the memory of %s (%s); from now on %d",
                stage,
                width,
                describe(key),
                device,
                used,
                width // 2,
            )
            loop.suspend()
            return
        if is_taken_by_others(device):
            loop.suspend()
            raise TrainingError(f"{device} has no memory for a trial: others use it ({used})") from error
        reason = f"out of memory: alone at {describe(key)} it needs more than {device} has ({used})"
        log.error("%s: %s", stage, reason)
        reporter.fail(error, loop.members, reason)

    def _fail(self, error: Exception, stage: Stage, members: Sequence[int], reporter: Reporter) -> None:
        self._failures += 1
        log.error("%s: training %s failed", stage, ", ".join(map(str, members)), exc_info=error)
        reporter.fail(error, members)
        if self._failures == self._limits.max_failures:
            raise TrainingError(f"{self._failures} packs in a row failed; the last: {error}") from error

    def _log_progress(self, stage: Stage, results: Sequence[EpochResult]) -> None:
        """Log the losses of the pack, now and then."""
        if self._clock() < self._next_log:
            return
        self._next_log = self._clock() + self._limits.log_seconds
        losses = (f"trial {r.member}, epoch {r.epoch}: loss {r.objective:.4f}" for r in results)
        log.info("%s: %s", stage, "; ".join(losses))


def _title(trial: LeasedTrial) -> str:
    return str(trial.number) + (f" from epoch {trial.checkpoint.epoch + 1}" if trial.checkpoint else "")
