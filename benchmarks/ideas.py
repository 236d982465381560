"""What was tried to improve the default search, on the same tables.

python -m benchmarks.ideas [--tables FILES] [--seeds N] [--only WORDS] [--report FOLDER] [--json FILE]

Each idea changes one thing about the default search, and is replayed like the policies of
`benchmarks.regret`. --report writes `ideas.md` into a folder.

asha N            prune trials that are not in the best 1/N at a rung, by loss so far; no pauses
by losses         rank paused trials by loss so far, not by predicted final loss
start anywhere    draw startup points from the whole space, not near the typical effective learning rate
proposals N       suggest N points per claim, which train in one pack in lockstep; the default is 4
startup N         use N random trials before the first suggestion and the first resume; the default is 10
reduction N       resume the best 1/N at a rung; the default is 3
risk P            prune a trial once the probability that it becomes the best is below P; no pauses
no step           use the learning rate as a coordinate, not the effective learning rate
complete only     fit the Gaussian process to completed trials only
foresight         oracle: sampler and pruner know the final loss of a run after its first epoch. At small
                  budgets this bounds what a better curve model could gain. At large budgets the oracle
                  prefers lucky runs
"""

import argparse
import json
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
from benchmarks.policies import DEFAULT, EPOCHS, Policy, pool, start, storage, without
from benchmarks.regret import SPENT, TABLES, end, in_cells, regret_of
from hpo.search import effective_lr, gp, learning_curves
from hpo.search.pruners.asha import AshaPruner
from hpo.search.pruners.base import Curve, Peer, Pruner
from hpo.search.samplers.base import Observation
from hpo.search.samplers.gp import GpSampler
from hpo.simulate.curve_table import CurveTable, read
from hpo.simulate.replay import Replay, replay
from hpo.spec.study_spec import StudySpec
from hpo.store import results
from hpo.store.results import TrialCurve
from hpo.study import pause, schedule
from hpo.values.space import Choices, Point, SearchSpace

SUGGEST = GpSampler.suggest

Patch = tuple[object, str, object]


@dataclass(frozen=True, slots=True)
class Idea:
    """`changes`: to the spec; `patches`: what is put in place of what, while it is replayed; `foresees`:
    whether it looks into the table."""

    changes: dict[str, Any] = field(default_factory=dict)
    patches: tuple[Patch, ...] = ()
    foresees: bool = False


def risk(chance: float) -> Callable[[Pruner, int, Curve, Iterable[Peer]], bool]:
    """Prune a trial that with less than this chance will be better than every other is expected to be."""

    def should_prune(_pruner: Pruner, _number: int, curve: Curve, peers: Iterable[Peer]) -> bool:
        known = [peer for peer in peers if peer.curve]
        if len(known) < 3:
            return False
        curves = [learning_curves.log_losses(one) for one in (curve, *(peer.curve for peer in known))]
        losses, errors = learning_curves.predict_final_losses(curves, [1.0] * len(curves), EPOCHS)
        seeds = 0.03  # about what two runs of a cell differ by, in the logarithm
        z = (losses[1:].min() - losses[0]) / math.hypot(errors[0], seeds)
        return bool(norm.cdf(z) < chance)

    return should_prune


def risky(chance: float) -> Idea:
    return Idea(
        {"pruner": {"name": "asha"}},
        ((AshaPruner, "should_prune", risk(chance)), (results, "curves_at", _whole_curves)),
    )


def _whole_curves(connection: Any, study_id: int, *_: object) -> dict[int, TrialCurve]:
    return results.curves(connection, study_id)


def plain_coordinates(space: SearchSpace) -> Callable[[Point], np.ndarray]:
    values = {}
    for name, domain in space.domains.items():
        assert isinstance(domain, Choices)
        values[name] = sorted(domain.values)
    return lambda point: np.array([its.index(point[name]) / (len(its) - 1) for name, its in values.items()])


def complete_only(
    sampler: GpSampler,
    space: SearchSpace,
    history: Iterable[Observation],
    count: int,
    seed: int,
    startup: int,
) -> list[Point]:
    ended = (TrialState.COMPLETE, TrialState.FAIL)
    known = [
        trial if trial.state in ended else Observation(trial.point, TrialState.RUNNING) for trial in history
    ]
    return SUGGEST(sampler, space, known, count, seed, min(startup, 3))


def by_losses(curves: Sequence[np.ndarray], _steps: Sequence[float], _epochs: int) -> tuple[Any, Any]:
    return np.array([curve[-1] for curve in curves]), np.zeros(len(curves))


def foresight(table: CurveTable) -> tuple[Patch, ...]:
    """A run is known by its first loss."""
    ends = {
        math.log(run[0].validation_loss): math.log(run[EPOCHS - 1].validation_loss)
        for runs in table.runs.values()
        for run in runs
        if run[-1].is_finite
    }

    def known(curves: Sequence[np.ndarray], _steps: Sequence[float], _epochs: int) -> tuple[Any, Any]:
        return np.array([ends.get(curve[0], curve[-1]) for curve in curves]), np.zeros(len(curves))

    return (gp, "predict_final_losses", known), (pause, "predict_final_losses", known)


IDEAS: dict[str, Idea] = {
    "the default": Idea(),
    "start anywhere": Idea(patches=((effective_lr, "NEAR", math.inf),)),
    **{f"asha {n}": Idea({"pruner": {"name": "asha", "reduction": n}}) for n in (2, 3)},
    "by losses": Idea(patches=((pause, "predict_final_losses", by_losses),)),
    **{f"proposals {n}": Idea(patches=((schedule, "PROPOSALS", n),)) for n in (2, 8)},
    **{f"startup {n}": Idea({"sampler": {"name": "gp", "startup": n}}) for n in (6, 14)},
    **{f"reduction {n}": Idea({"pruner": {"name": "pause", "reduction": n}}) for n in (2, 4)},
    **{f"risk {p}": risky(p) for p in (0.02, 0.1)},
    "no step": Idea(patches=((gp, "unit_coordinates", plain_coordinates),)),
    "complete only": Idea(patches=((GpSampler, "suggest", complete_only),)),
    "foresight": Idea(foresees=True),
}


@contextmanager
def put_in_place(idea: Idea, table: CurveTable) -> Iterator[None]:
    patches = (*idea.patches, *(foresight(table) if idea.foresees else ()))
    with ExitStack() as stack:
        for where, name, value in patches:
            stack.enter_context(patch.object(where, name, value))
        yield


def replays(name: str, path: Path, of: Policy, seeds: Sequence[int]) -> list[Replay]:
    """In a process of the pool."""
    idea, table = IDEAS[name], read(path)
    spec = StudySpec.parse(of.spec.to_json() | idea.changes, "benchmark")
    with without(path), put_in_place(idea, table):
        return [replay(storage(), spec.model_copy(update={"seed": seed}), table) for seed in seeds]


def write(folder: Path, figures: dict[str, Any], seeds: int) -> None:
    assert __doc__ is not None
    title, _, rest = __doc__.partition("\n\n")
    words = rest.partition("asha N")
    parts = [
        f"# {title.rstrip('.')}\n",
        f"Generated by `python -m benchmarks.ideas --report docs` ({hardware.line()}). Each idea changes one "
        "thing about the default search. [search.md](search.md) defines regret and describes the tables. "
        f"Figures are means of {seeds} replays with standard errors.\n",
        f"```\n{''.join(words[1:]).strip()}\n```\n",
    ]
    for table, rows in figures.items():
        heads = ["", *(f"{spent} epochs" for spent in SPENT[:3]), "trials"]
        cells = (
            [name, *search_page.padded(at["mean"], at["error"], 3), f"{at['trials']:.0f}"]
            for name, at in rows.items()
        )
        parts += [f"## {table.removesuffix('.csv.gz')}\n", search_page.markdown(heads, cells)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ideas.md").write_text("\n".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", nargs="+", type=Path, default=TABLES, help="default: benchmarks/tables")
    parser.add_argument("--seeds", type=int, default=30, help="replays of each idea (default 30)")
    parser.add_argument("--only", default="", help="ideas with these words in their name")
    parser.add_argument("--report", type=Path, help="write ideas.md into this folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    print(f"{hardware.line()}; n = {options.seeds}")
    figures: dict[str, Any] = {}
    with pool() as processes:
        for path in options.tables:
            waiting = {
                name: start(processes, partial(replays, name), path, DEFAULT, options.seeds)
                for name in IDEAS
                if options.only in name
            }
            print(f"\n{path.name:32}" + "".join(f"{spent:>10} epochs" for spent in SPENT[:3]) + "    trials")
            rows = figures[path.name] = {}
            for name, wait in waiting.items():
                found = wait()
                at = regret_of(path, found, "epochs", SPENT[:3])
                print(f"{name:32}{in_cells(at)}{end(found, 'trials'):10.1f}", flush=True)
                rows[name] = at | {"trials": end(found, "trials")}
    if options.report:
        write(options.report, figures, options.seeds)
    if options.json:
        options.json.write_text(json.dumps({"tables": figures, "hardware": hardware.line()}, indent=2))


if __name__ == "__main__":
    main()
