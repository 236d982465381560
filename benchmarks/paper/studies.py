"""The studies of one network: its search with full training, and the arms that it is compared with.

An arm is a study whose space has a single cell, so that its only search trial is promoted at once. All
studies of a network have the same seed. Full training i therefore begins with the same weights in each of
them, and all see the images in the same order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.search.samplers.points import plan
from hpo.spec.reading import read_toml
from hpo.spec.recipes import RECIPES
from hpo.spec.study_spec import StudySpec
from hpo.values.built_in import PARAMETERS
from hpo.values.space import Point, cell

STUDIES = Path(__file__).parents[2] / "studies"

NETWORKS = ("lenet", "alexnet", "vggnet", "resnet", "spinalnet")
"""The networks of the table. `ensnet` needs a large GPU, and is trained where `--models` names it."""

QUICK_EPOCHS = 3
QUICK: Mapping[str, Any] = {
    "data": {"name": "digits", "mini": 0.5, "validation": 0.4},
    "space": {"lr": [0.01, 0.1], "batch_size": [32], "momentum": [0, 0.9], "weight_decay": [0, 1e-3]},
    "search": {"trials": 4, "epochs": 2},
    "stop": {},
    "engine": {"compile": "never"},
}
"""The short form: a small search on scikit-learn's digits."""

RANDOM_ARMS = 3
MIDDLE_CELLS = 10
MIDDLE_SHARE = 4
"""Middle fidelity trains for one `MIDDLE_SHARE`th of the epochs of full training."""

DEFAULT = "default"
MIDDLE_WINNER = "middle"

ARM_SEEDS: Mapping[str, int] = {"lenet": 3}
"""Full trainings of each arm: one, or more of a network that trains fast."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The studies of one network.

    `seeds`: full trainings of the parameters found. `arm_seeds`: of each arm, None for those of `ARM_SEEDS`.
    `epochs`: of full training, None for those of the study file.
    """

    network: str
    seeds: int = 3
    arm_seeds: int | None = None
    epochs: int | None = None
    quick: bool = False

    @property
    def name(self) -> str:
        """Return the name of the study that searches."""
        return f"quick-{self.network}" if self.quick else self.network

    def study(self) -> StudySpec:
        """Return the study that searches, and trains the best cell in full."""
        return self.spec({"name": self.name, "promotion": {"top": 1, "seeds": self.seeds}})

    def arm(self, label: str, point: Point, seeds: int | None = None, share: int = 1) -> StudySpec:
        """Return the study that trains one cell in full, with the recipe of `study`.

        `share`: train for one `share`th of the epochs, at least one.
        """
        seeds = seeds or self.arm_seeds or ARM_SEEDS.get(self.network, 1)
        changes = {"name": f"{self.name}-{label}", "promotion": {"top": 1, "seeds": seeds}}
        if share > 1:
            first = self.study().full.pretrain.epochs
            changes["full"] = with_epochs(self.file()["full"], -(-first // share))
        return self.spec({**single_cell(point), **changes})

    def spec(self, changes: Mapping[str, Any]) -> StudySpec:
        """Return the study file of the network with other sections."""
        raw = self.file()
        source = f"study {changes['name']!r}"
        spec = StudySpec.parse({**raw, **changes}, source)
        epochs = self.epochs or (QUICK_EPOCHS if self.quick else None)
        if epochs is None or "full" in changes:
            return spec
        return StudySpec.parse({**raw, **changes, "full": with_epochs(raw["full"], epochs)}, source)

    def file(self) -> dict[str, Any]:
        """Return the tables of the study file, or of the short form."""
        return {**read_toml(STUDIES / f"{self.network}.toml"), **(QUICK if self.quick else {})}

    def arms(self) -> dict[str, Point]:
        """Return the default parameters and the first cells of random search, by the label of the arm.

        The cells depend on the space and the seed of the study alone. They leave out the default parameters.
        """
        spec = self.study()
        default = default_point(spec)
        cells = plan(spec.space, RANDOM_ARMS, spec.seed, {cell(default)})
        return {DEFAULT: default} | {f"random-{number}": point for number, point in enumerate(cells, 1)}

    def middle(self, points: Sequence[Point]) -> list[StudySpec]:
        """Return the studies that train the best cells of the search for a part of the epochs, best first."""
        return [
            self.arm(f"middle-{rank}", point, seeds=1, share=MIDDLE_SHARE)
            for rank, point in enumerate(points, 1)
        ]

    def middle_winner(self, point: Point) -> StudySpec:
        """Return the study that trains the cell chosen by middle fidelity in full."""
        return self.arm(MIDDLE_WINNER, point)

    def middle_names(self) -> list[str]:
        """Return the names of the studies of `middle`, best cell first."""
        return [f"{self.name}-middle-{rank}" for rank in range(1, MIDDLE_CELLS + 1)]

    def arm_names(self) -> dict[str, str]:
        """Return the names of the studies of the arms, and of the winner of middle fidelity, by label."""
        return {label: f"{self.name}-{label}" for label in (*self.arms(), MIDDLE_WINNER)}


def single_cell(point: Point) -> dict[str, Any]:
    """Return the sections of a study whose space is one cell: its search is one epoch."""
    return {
        "space": {name: [value] for name, value in point.items()},
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "search": {"trials": 1, "epochs": 1},
        "stop": {},
    }


def default_point(spec: StudySpec) -> Point:
    """Return the defaults of hpo for the parameters of a space."""
    defaults = {name: PARAMETERS[name].default for name in spec.space.domains}
    return {name: value for name, value in defaults.items() if value is not None}


def with_epochs(full: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return a table `[full]` whose first phase has this number of epochs, and a second phase half of it."""
    recipe = RECIPES.get(str(full.get("recipe")), {})
    changed = {**full, "pretrain": {**full.get("pretrain", {}), "epochs": epochs}}
    second = full.get("finetune", recipe.get("finetune"))
    if second:
        changed["finetune"] = {**full.get("finetune", {}), "epochs": -(-epochs // 2)}
    return changed
