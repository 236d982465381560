"""Train one pack after another, step by step, and handle each kind of failure."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hpo.errors import HpoError, TrainingError, one_line
from hpo.models import ModelError
from hpo.store.leases import Lease
from hpo.study.schedule import LeasedTrial
from hpo.values.epoch import TRAIN_LOSS, EpochResult
from hpo.values.objective import Objective
from hpo.values.parameters import describe
from hpo.values.stage import Stage
from hpo.values.vocabulary import PackKey
from hpo.worker.claims import Claims
from hpo.worker.context import WorkerContext
from hpo.worker.report_target import ReportTarget
from hpo.worker.reporter import Reporter, traceback_of
from hpo.worker.reporter import describe as describe_error
from hpo.worker.services import Services
from hpo.worker.steps import DONE, Done, Step
from hpo.worker.trial_loop import LoopServices, PackSettings, TrialLoop

log = logging.getLogger("hpo.worker")


@dataclass(slots=True)
class _Pack:
    """The pack that is being trained. `loop` is None before the trainer has started."""

    stage: Stage
    key: PackKey
    trials: Sequence[LeasedTrial]
    reporter: Reporter
    loop: TrialLoop | None = None

    @property
    def members(self) -> list[int]:
        return [trial.number for trial in self.trials] if self.loop is None else self.loop.members


class PackRunner:
    """Trains packs. A pack that runs out of memory is halved.

    If code raises, the trials of the pack come again, each alone. A trial whose code raises alone fails.
    """

    def __init__(self, context: WorkerContext, claims: Claims, services: Services) -> None:
        self._context, self._settings, self._runtime = context, context.settings, context.runtime
        self._clock, self._limits = context.runtime.clock, context.runtime.limits
        self._watch = context.runtime.watch
        self._claims, self._services, self._faults = claims, services, services.faults
        self._pack: _Pack | None = None
        self._failures = 0
        self._reasons: frozenset[str] = frozenset()  # of failures whose traceback has been logged
        self._next_log = 0.0

    @property
    def is_running(self) -> bool:
        """Whether a pack has begun and has not ended."""
        return self._pack is not None

    @property
    def leases(self) -> tuple[Lease, ...]:
        """The leases of the open trials of the pack, by the database's last answer."""
        pack = self._pack  # once: the thread that renews leases reads it too
        return () if pack is None else pack.reporter.leases

    def begin(self, stage: Stage, trials: Sequence[LeasedTrial]) -> None:
        """Begin a pack of these trials, which have one pack key."""
        key = trials[0].pack_key(self._context.study.spec.space)
        titles = ", ".join(map(_title, trials))
        self._next_log = self._clock() + self._limits.log_seconds
        details = f" ({describe(key)}, pack of {len(trials)})" if key else ""
        log.info("%s: training %s%s", stage, titles, details)
        reporter = self._reporter(stage)
        reporter.add(trials)
        self._watch.begin_pack(stage, [trial.number for trial in trials])
        self._pack = _Pack(stage, key, trials, reporter)

    def step(self) -> Step:
        """Take a step of the pack; `Done` once all of its trials have ended or are released.

        Raises `TrainingError` after `max_failures` packs in a row that raised before any epoch. An error that
        breaks the process or the device propagates. If anything is raised, the pack has ended.
        """
        pack = self._pack
        assert pack is not None, "a pack has begun"
        step: Step = DONE
        try:
            step = self._step(pack)
        finally:
            if isinstance(step, Done):
                self._pack = None
                self._watch.end_pack()
                pack.reporter.close()
                self._services.overhead.exclude(pack.reporter.charged)
        return step

    def _step(self, pack: _Pack) -> Step:
        out_of_memory = False
        try:
            if pack.loop is None:
                pack.loop = self._loop(pack)
            return pack.loop.step()
        except ModelError as error:
            self._fail(error, pack)
        except HpoError:
            raise  # not the trials' fault: they are free once their leases expire or this process ends
        except (Exception, SystemExit) as error:  # a user's network may call sys.exit
            out_of_memory = self._faults.is_out_of_memory(error)
            if self._faults.is_broken(error) or (out_of_memory and pack.loop is None):
                raise  # this process cannot compute any more; another one takes over
            if out_of_memory and pack.loop is not None:
                self._handle_out_of_memory(error, pack, pack.loop)
            else:
                self._fail(error, pack)
        if out_of_memory:
            pack.loop = None
            self._faults.release_memory()  # only now: the exception held on to what had been allocated
        return DONE

    def _reporter(self, stage: Stage) -> Reporter:
        settings = self._settings
        return Reporter(
            ReportTarget(self._context.storage, self._context.study, stage, settings.name, settings.device),
            self._services.outbox,
            self._services.files.cleanup(stage),
            self._clock,
            self._limits.loop.answer_seconds,
        )

    def _loop(self, pack: _Pack) -> TrialLoop:
        stage, key = pack.stage, pack.key
        services = LoopServices(
            pack.reporter,
            self._services.outbox,
            self._services.files.checkpoints(stage),
            partial(self._claims.claim_more, stage, key),
            self._services.beside,
            partial(self._note_epoch, stage),
        )
        width, vocabulary = self._claims.width(stage, key), self._context.study.spec.space.vocabulary
        settings = PackSettings(stage, width, self._settings.fills_packs, vocabulary)
        trainer = self._services.trainers.make(stage, key)
        return TrialLoop(trainer, pack.trials, settings, services, self._runtime)

    def _handle_out_of_memory(self, error: BaseException, pack: _Pack, loop: TrialLoop) -> None:
        """Put the trials back into the queue as of their last whole epoch, and halve later packs.

        A trial that does not fit alone fails. Raises `TrainingError` instead if other processes fill the
        device: then the fault is not the trial's.
        """
        stage, key, device = pack.stage, pack.key, self._settings.device
        used, width = self._faults.memory_used(), loop.width
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
        if self._faults.is_taken_by_others():
            loop.suspend()
            raise TrainingError(f"{device} has no memory for a trial: others use it ({used})") from error
        reason = f"out of memory: alone at {describe(key)} it needs more than {device} has ({used})"
        log.error("%s: %s", stage, reason)
        pack.reporter.fail(error, loop.members, reason)

    def _fail(self, error: BaseException, pack: _Pack) -> None:
        """Hand the trials back, each to run alone, or fail a trial that is alone."""
        if not self._faults.is_contained(error):
            self._failures += 1
        members = pack.members
        reason = describe_error(error)
        is_new, self._reasons = reason not in self._reasons, self._reasons | {reason}
        log.error(
            "%s: training %s failed: %s%s",
            pack.stage,
            ", ".join(map(str, members)),
            reason,
            f"\n{traceback_of(error)}".rstrip()
            if is_new
            else "",  # once: the traceback of each trial is stored
        )
        if len(members) <= 1:
            pack.reporter.fail(error, members)
        else:
            log.warning("%s: each of the %d trials runs alone next", pack.stage, len(members))
            hand_back = pack.reporter.hand_back if pack.loop is None else pack.loop.hand_back
            hand_back(reason)
        if self._failures == self._limits.max_failures:
            raise TrainingError(
                f"{self._failures} packs in a row failed; the last: {one_line(error)}"
            ) from error

    def _note_epoch(self, stage: Stage, results: Sequence[EpochResult]) -> None:
        """Note that this process can train, and log the losses of the pack, now and then."""
        self._failures = 0
        self._watch.note_epoch()
        if self._clock() < self._next_log:
            return
        self._next_log = self._clock() + self._limits.log_seconds
        objective = self._context.study.objective
        lines = (f"trial {r.member}, epoch {r.epoch}: {_figure(r, objective)}" for r in results)
        log.info("%s: %s", stage, "; ".join(lines))


def _figure(result: EpochResult, objective: Objective) -> str:
    """Return the objective of an epoch, or the training loss of a refit, which measures nothing else."""
    if objective.key in result.metrics:
        return f"{objective.title} {objective.show(objective.of(result.metrics))}"
    return f"training loss {result.metrics[TRAIN_LOSS]:.4f}"


def _title(trial: LeasedTrial) -> str:
    return str(trial.number) + (f" from epoch {trial.checkpoint.epoch + 1}" if trial.checkpoint else "")
