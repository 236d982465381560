"""Leave out each part of the recipe of full training, and compare on the mini images. No test image is read.

Each variant is a study with a single cell, NET-ablation-VARIANT, which stays in the storage (HPO_HOME or
HPO_STORAGE_URL). The command may be killed at any time; called again, it continues. The parameters are those
that `benchmarks.paper` has found, or those of --params. --report trains nothing.
"""

import logging
import signal
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.command import parser
from benchmarks.paper.figures import Reader
from benchmarks.paper.intervals import paired_interval
from benchmarks.paper.scores import Figures, finite
from benchmarks.paper.studies import QUICK_EPOCHS, Plan, default_point, single_cell, with_epochs
from benchmarks.paper.trained import Trained, mean_and_spread
from benchmarks.paper.training import Trainer
from benchmarks.results import Result
from hpo.errors import HpoError, InputError
from hpo.run.logs import log_to_stderr
from hpo.spec.study_spec import StudySpec
from hpo.values.space import Point

BASE = "recipe"


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of the recipe. `changes`: keys of `[full]` that differ from those of the study file.

    `is_whole`: the changes are the whole section.
    """

    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    is_whole: bool = False

    def full(self, recipe: Mapping[str, Any], epochs: int | None) -> dict[str, Any]:
        """Return the section `[full]`. `recipe`: that of the study file.

        `epochs`: of the first phase, None for those of the recipe.
        """
        full = {**({} if self.is_whole else recipe), **self.changes}
        if "pretrain" in self.changes:
            full["pretrain"] = {**recipe.get("pretrain", {}), **self.changes["pretrain"]}
        return full if epochs is None else with_epochs(full, epochs)


VARIANTS: Mapping[str, Variant] = {
    BASE: Variant("the recipe"),
    "constant": Variant("without the schedule", {"schedule": "constant", "pretrain": {"patience": False}}),
    "ema": Variant("with an average of the weights", {"ema": 0.999}),
    "no-smoothing": Variant("without label smoothing", {"label_smoothing": 0.0}),
    "own-dropout": Variant("with the dropout of the network", {"dropout": False}),
    "no-dropout": Variant("without dropout", {"dropout": 0.0}),
    "no-augmentation": Variant("without augmentation", {"augment": False}),
    "strong-augmentation": Variant(
        "with the augmentation of the published study",
        {"augment": {"rotation": 15, "shift": 0.1, "scale": [0.9, 1.1], "shear": 3}},
    ),
    "no-nesterov": Variant("without Nesterov momentum", {"nesterov": False}),
    "no-clipping": Variant("without clipping", {"clip": False}),
    "adam": Variant("with a second phase with Adam", {"finetune": {"epochs": 15, "patience": 3}}),
    "paper": Variant("the recipe of the published study", {"recipe": "paper"}, is_whole=True),
}
"""The variants by the ends of the names of their studies."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """The studies of one network. `params`: the cell that all variants train."""

    plan: Plan
    params: Point

    def study_name(self, label: str) -> str:
        """Return the name of the study of a variant."""
        return f"{self.plan.name}-ablation-{label}"

    def studies(self) -> dict[str, StudySpec]:
        """Return the studies by label of the variant, without those that have the recipe of the network."""
        plan, shared = self.plan, single_cell(self.params)
        epochs = plan.epochs or (QUICK_EPOCHS if plan.quick else None)
        recipe = plan.file()["full"]
        specs = {
            label: plan.spec(
                {
                    **shared,
                    "name": self.study_name(label),
                    "promotion": {"top": 1, "seeds": plan.seeds},
                    "full": variant.full(recipe, epochs),
                }
            )
            for label, variant in VARIANTS.items()
        }
        base = specs[BASE].full
        return {label: spec for label, spec in specs.items() if label == BASE or spec.full != base}

    def figures(self, reader: Reader) -> Figures:
        """Return what is finished of each variant, with the difference to the recipe paired by seed."""
        trained = {label: reader.trained(self.study_name(label)) for label in VARIANTS}
        return {
            "params": self.params,
            "variants": {
                label: variant_figures(study, trained[BASE])
                for label, study in trained.items()
                if study is not None and study.trainings
            },
        }


def variant_figures(study: Trained, base: Trained | None) -> Figures:
    """Return the figures of a variant. Its difference is that of the seeds that the recipe has as well."""
    mean, deviation = mean_and_spread(study.accuracies)
    loss, _ = mean_and_spread([training.loss for training in study.trainings])
    figures = {**study.to_json(), "mean": mean, "deviation": deviation, "loss": loss}
    of_base = {} if base is None else {training.index: training.accuracy for training in base.trainings}
    differences = [
        training.accuracy - of_base[training.index]
        for training in study.trainings
        if training.index in of_base
    ]
    if differences and base is not study:
        figures["difference"] = asdict(paired_interval(differences))
    return figures


def parse_params(text: str) -> Point:
    """Parse `lr=0.1,batch_size=16`. Raises `InputError` for another form."""
    params: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        try:
            params[name] = int(value) if value.isdecimal() else float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise InputError(f"--params {text!r}: must be NAME=NUMBER, separated by commas")
    return params


def parse_options() -> Namespace:
    options = parser(__doc__, quick="3 epochs on digits, with the default parameters")
    options.add_argument("--models", default="lenet,spinalnet", help="networks (default lenet,spinalnet)")
    options.add_argument("--seeds", type=int, default=3, help="full trainings of a variant (default 3)")
    options.add_argument("--epochs", type=int, help="epochs of full training, in place of the recipe's")
    options.add_argument("--params", help="such as lr=0.1,batch_size=16; by default those found")
    options.add_argument("--report", action="store_true", help="train nothing; print what is finished")
    options.add_argument("--gpus", default="all", help="as in hpo run")
    options.add_argument("--per-device", type=int, help="as in hpo run")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.params = arguments.params or "lr=0.05"
    return arguments


def ablation_of(network: str, arguments: Namespace, reader: Reader) -> Ablation:
    """Return the ablation of a network. Raises `InputError` if its parameters are neither found nor given."""
    plan = Plan(network, arguments.seeds, arguments.seeds, arguments.epochs, arguments.quick)
    if arguments.params:
        return Ablation(plan, {**default_point(plan.study()), **parse_params(arguments.params)})
    found = reader.trained(plan.name)
    if found is None or found.params is None:
        raise InputError(
            f"no parameters of {network} are found yet: run python -m benchmarks.paper, or give --params"
        )
    return Ablation(plan, found.params)


def measure(arguments: Namespace, result: Result) -> None:
    """Train all variants of each network, unless only a report is wanted, and note their figures."""
    trainer = Trainer.open(arguments.gpus, arguments.per_device)
    reader, networks = Reader(trainer), arguments.models.split(",")
    for network in networks:
        ablation = ablation_of(network, arguments, reader)
        if not arguments.report:
            trainer.train_all(list(ablation.studies().values()))
        result.values[network] = finite(ablation.figures(reader))
        result.write(arguments.json)


def print_tables(result: Result) -> None:
    """Add a table for each network."""
    for network, figures in result.values.items():
        heads = ("variant", "seeds", "accuracy %", "difference, points", "loss")
        table = result.table(f"{network}: the recipe and its parts", heads, first=44)
        for label, variant in figures["variants"].items():
            table.add(VARIANTS[label].title, *variant_cells(variant))


def variant_cells(variant: Mapping[str, Any]) -> Sequence[str]:
    """Return the number of seeds, the accuracy, its difference to the recipe, and the loss."""
    accuracy = f"{100 * variant['mean']:.2f}"
    if variant["deviation"] is not None:
        accuracy += f" ± {100 * variant['deviation']:.2f}"
    count = f"{len(variant['trainings'])} of {variant['planned']}"
    return [count, accuracy, difference_cell(variant.get("difference")), f"{variant['loss']:.4f}"]


def difference_cell(difference: Mapping[str, Any] | None) -> str:
    """Return a difference in points with half of its 95% interval, where there is one."""
    if difference is None:
        return ""
    points = f"{100 * difference['value']:+.2f}"
    if difference["low"] is None:
        return points
    return f"{points} ± {50 * (difference['high'] - difference['low']):.2f}"


def main() -> None:
    arguments = parse_options()
    log_to_stderr(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    result = Result.begin("ablation", arguments.models, arguments.seeds)
    try:
        measure(arguments, result)
    except HpoError as error:
        sys.exit(f"benchmarks.ablation: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print_tables(result)
    result.write(arguments.json)


if __name__ == "__main__":
    main()
