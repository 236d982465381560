"""Replay changes to the default search that did not become part of it, on the tables of `benchmarks.regret`.

Each idea changes one thing about the default search. With --report, ideas.md is written into a folder.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from optuna.trial import TrialState
from scipy.stats import norm

from benchmarks import hardware, search_page
from benchmarks.command import parser
from benchmarks.policies import DEFAULT, EPOCHS, Policy, held_out, pool, start, storage
from benchmarks.regret import POLICY_WIDTH, REGRET_WIDTH, SPENT, TABLES, final, regret_of
from benchmarks.results import Result, markdown
from hpo.search import effective_lr, final_losses, gp, learning_curves
from hpo.search.pruners.asha import AshaPruner
from hpo.search.pruners.base import Curve, Peer, Pruner
from hpo.search.samplers.base import Observation
from hpo.search.samplers.gp import GpSampler
from hpo.simulate.curve_table import CurveTable, read
from hpo.simulate.replay import Replay, replay_search
from hpo.spec.study_spec import StudySpec
from hpo.store import results
from hpo.store.results import TrialCurve
from hpo.study import pause, schedule
from hpo.values.epoch import VALIDATION_LOSS
from hpo.values.objective import Objective
from hpo.values.space import Choices, Point, SearchSpace

DESCRIPTIONS = {
    "asha N": "A trial that is not among the best 1/N at a rung, by its loss there, ends at once.",
    "rank by loss": "Paused trials are ranked by their last loss, not by their predicted final loss.",
    "uniform start": "Startup points come from the whole space, not from near the typical effective "
    "learning rate.",
    "suggestions N": "A claim asks the sampler for N new points, which train as one pack in lockstep. "
    "This is successive halving inside a pack, without waiting for other workers. The default is 4.",
    "startup N": "N random trials come before the Gaussian process and before the first resumed trial. The "
    "default is 10.",
    "reduction N": "One paused trial in N resumes. The default is 3.",
    "risk P": "Trials do not pause. A trial ends once the probability that it becomes the best is below P.",
    "plain lr": "The Gaussian process sees the learning rate, not the effective learning rate.",
    "complete only": "The Gaussian process learns from completed trials only.",
    "oracle": "Not an idea but a bound: the final loss of a run is known after its first epoch, to the "
    "Gaussian process and to the ranking of paused trials. Early in a search this shows what a better model "
    "of learning curves could gain. Late in a search it follows the noise of single runs.",
}

SUGGEST = GpSampler.suggest

RUN_NOISE = 0.03
"""Standard deviation of the log loss between two runs of a cell, about."""

Patch = tuple[object, str, object]
"""Module or class, name of an attribute, and its value during a replay."""


@dataclass(frozen=True, slots=True)
class Idea:
    """Changes to the study file, and patches of hpo.

    `oracle` adds the patches that look up the curve table.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()
    oracle: bool = False


def risk_rule(threshold: float) -> Callable[[Pruner, int, Curve, Iterable[Peer]], bool]:
    """Return a `should_prune` that ends a trial whose probability of being the best is below the threshold.

    The trial is compared with the least predicted final loss of all others.
    """

    def should_prune(_pruner: Pruner, _number: int, curve: Curve, peers: Iterable[Peer]) -> bool:
        known = [peer for peer in peers if peer.curve]
        if len(known) < 3:
            return False
        curves = [learning_curves.log_losses(each) for each in (curve, *(peer.curve for peer in known))]
        losses, errors = learning_curves.predict_final_losses(curves, [1.0] * len(curves), EPOCHS)
        z = (losses[1:].min() - losses[0]) / math.hypot(errors[0], RUN_NOISE)
        return bool(norm.cdf(z) < threshold)

    return should_prune


def risk(threshold: float) -> Idea:
    patches = (
        (AshaPruner, "should_prune", risk_rule(threshold)),
        (results, "curves_at", _whole_curves),
    )
    return Idea({"pruner": {"name": "asha"}}, patches)


def _whole_curves(connection: Any, study_id: int, objective: Objective, *_: object) -> dict[int, TrialCurve]:
    return results.curves(connection, study_id, objective)


def plain_coordinates(space: SearchSpace) -> Callable[[Point], np.ndarray]:
    choices = {}
    for name, domain in space.domains.items():
        assert isinstance(domain, Choices)
        choices[name] = sorted(domain.values)
    return lambda point: np.array(
        [values.index(point[name]) / (len(values) - 1) for name, values in choices.items()]
    )


def suggest_from_completed(
    sampler: GpSampler, space: SearchSpace, history: Iterable[Observation], count: int, seed: int
) -> list[Point]:
    """Stand in for `GpSampler.suggest`; `sampler` is its self."""
    ended = (TrialState.COMPLETE, TrialState.FAIL)
    known = [
        trial if trial.state in ended else Observation(trial.point, TrialState.RUNNING) for trial in history
    ]
    early = sampler.model_copy(update={"startup": min(sampler.startup, 3)})
    return SUGGEST(early, space, known, count, seed)


def last_losses(curves: Sequence[np.ndarray], _steps: Sequence[float], _epochs: int) -> tuple[Any, Any]:
    return np.array([curve[-1] for curve in curves]), np.zeros(len(curves))


def oracle_patches(table: CurveTable) -> tuple[Patch, ...]:
    """Return patches that look up the final loss of a run. A run is identified by its first loss."""
    last = {
        math.log(run[0].metrics[VALIDATION_LOSS]): math.log(run[EPOCHS - 1].metrics[VALIDATION_LOSS])
        for runs in table.runs.values()
        for run in runs
        if run[-1].is_finite
    }

    def look_up(curves: Sequence[np.ndarray], _steps: Sequence[float], _epochs: int) -> tuple[Any, Any]:
        losses = [last.get(curve[0], curve[-1]) for curve in curves]
        return np.array(losses), np.zeros(len(curves))

    return (final_losses, "predict_final_losses", look_up), (pause, "predict_final_losses", look_up)


IDEAS: dict[str, Idea] = {
    "the default": Idea(),
    "uniform start": Idea(patches=((effective_lr, "NEAR", math.inf),)),
    **{f"asha {n}": Idea({"pruner": {"name": "asha", "reduction": n}}) for n in (2, 3)},
    "rank by loss": Idea(patches=((pause, "predict_final_losses", last_losses),)),
    **{f"suggestions {n}": Idea(patches=((schedule, "MAX_SUGGESTIONS", n),)) for n in (2, 8)},
    **{f"startup {n}": Idea({"sampler": {"name": "gp", "startup": n}}) for n in (6, 14)},
    **{f"reduction {n}": Idea({"pruner": {"name": "pause", "reduction": n}}) for n in (2, 4)},
    **{f"risk {p}": risk(p) for p in (0.02, 0.1)},
    "plain lr": Idea(patches=((gp, "unit_coordinates", plain_coordinates),)),
    "complete only": Idea(patches=((GpSampler, "suggest", suggest_from_completed),)),
    "oracle": Idea(oracle=True),
}


@contextmanager
def patched(idea: Idea, table: CurveTable) -> Iterator[None]:
    patches = (*idea.patches, *(oracle_patches(table) if idea.oracle else ()))
    with ExitStack() as stack:
        for module, name, value in patches:
            stack.enter_context(patch.object(module, name, value))
        yield


def replays(name: str, path: Path, policy: Policy, seeds: Sequence[int]) -> list[Replay]:
    """Replay a policy with an idea. Only in a process of the pool."""
    idea, table = IDEAS[name], read(path)
    spec = StudySpec.parse(policy.spec.to_json() | idea.changes, "benchmark")
    with held_out(path), patched(idea, table):
        return [replay_search(storage(), spec.model_copy(update={"seed": seed}), table) for seed in seeds]


def page_head(measured_on: str, seeds: int) -> str:
    """Return the text of the page above its tables."""
    ideas = "\n".join(f"- **{name}**: {text}" for name, text in DESCRIPTIONS.items())
    return f"""# Ideas tried on the default search

None is better than the default on both tables at every budget.

This page is generated by `python -m benchmarks.ideas --report docs` ({measured_on}).

Each idea changes one thing about the default search, `gp` with `pause`. [search.md](search.md) defines regret
and describes the curve tables. Figures are means of {seeds} replays with standard errors. The figures of
the default differ a little from those in search.md, which are means of more replays.

EMNIST figures: 100,000 of the 697,932 training images of EMNIST ByClass.

{ideas}
"""


def write(folder: Path, result: Result) -> None:
    """Write `ideas.md` into a folder."""
    measured_on = f"{result.origin.hardware}; {hardware.in_words(result.origin.libraries)}"
    parts = [page_head(measured_on, result.n)]
    for table, rows in result.values["tables"].items():
        heads = ["", *(f"{spent} epochs" for spent in SPENT[:3]), "trials"]
        parts += [f"## {table.removesuffix('.csv.gz')}\n", markdown(heads, map(cells, rows, rows.values()))]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ideas.md").write_text("\n".join(parts))


def cells(name: str, row: dict[str, Any]) -> list[str]:
    return [name, *search_page.padded(row["mean"], row["error"], 3), f"{row['trials']:.0f}"]


def main() -> None:
    descriptions = "\n".join(f"{name:14}{text}" for name, text in DESCRIPTIONS.items())
    options = parser(f"{__doc__}\n{descriptions}", quick="one replay of each idea on the first table")
    options.add_argument("--tables", nargs="+", type=Path, default=TABLES, help="default: benchmarks/tables")
    options.add_argument("--seeds", type=int, default=30, help="replays of each idea (default 30)")
    options.add_argument("--only", default="", help="ideas with this text in their name")
    options.add_argument("--report", type=Path, help="write ideas.md into this folder")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.tables, arguments.seeds = arguments.tables[:1], 1
    result = Result.begin("ideas", "changes to the default search, replayed on curve tables", arguments.seeds)
    figures: dict[str, Any] = {}
    with pool() as processes:
        for path in arguments.tables:
            running = {
                name: start(processes, partial(replays, name), path, DEFAULT, arguments.seeds)
                for name in IDEAS
                if arguments.only in name
            }
            heads = ("idea", *(f"{spent} epochs" for spent in SPENT[:3]), "trials")
            title = f"Regret on {path.name}"
            table = result.table(title, heads, first=POLICY_WIDTH, others=REGRET_WIDTH)
            rows = figures[path.name] = {}
            for name, wait in running.items():
                searches = wait()
                regret = regret_of(path, searches, "epochs", SPENT[:3])
                rows[name] = regret | {"trials": final(searches, "trials")}
                table.add(*cells(name, rows[name]))
    result.values["tables"] = figures
    result.write(arguments.json)
    if arguments.report:
        write(arguments.report, result)


if __name__ == "__main__":
    main()
