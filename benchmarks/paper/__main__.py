"""Train the networks of the published study in full, each in a study like any other, and measure them.

For each network: the search of studies/NET.toml, then the parameters found in full, under several seeds. With
--arms also hpo's default parameters and random cells, with --middle also the best ten cells of the search by
a quarter of full training. Every study stays in the storage (HPO_HOME or HPO_STORAGE_URL). The command may be
killed at any time; called again, it continues, and prints the same accuracies.

The mini images decide. --until validation reads no test image. --report trains nothing.
"""

import logging
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence

from benchmarks.command import parser
from benchmarks.paper import page, report
from benchmarks.paper.figures import Reader
from benchmarks.paper.scores import Figures, finite
from benchmarks.paper.studies import MIDDLE_CELLS, NETWORKS, Plan
from benchmarks.paper.testing import models_to_test, score_models
from benchmarks.paper.training import Trainer
from benchmarks.results import Result
from hpo.errors import HpoError
from hpo.run.logs import log_to_stderr

UNTIL = ("search", "validation", "test")


def parse_options() -> Namespace:
    options = parser(__doc__, quick="4 search trials and 3 epochs of full training on digits")
    options.add_argument("--models", default=",".join(NETWORKS), help="networks, separated by commas")
    options.add_argument("--seeds", type=int, default=3, help="full trainings of what was found (default 3)")
    options.add_argument("--epochs", type=int, help="epochs of full training, in place of the recipe's")
    options.add_argument("--arms", action="store_true", help="also train default and random parameters")
    options.add_argument("--arm-seeds", type=int, help="full trainings of an arm (default 1; LeNet 3)")
    options.add_argument("--middle", action="store_true", help="also choose by a quarter of full training")
    options.add_argument("--shifts", type=int, default=0, help="also average over shifts by up to N pixels")
    options.add_argument("--until", choices=UNTIL, default="test", help="the last step (default test)")
    options.add_argument("--report", action="store_true", help="train nothing; print what is finished")
    options.add_argument("--page", action="store_true", help="only write docs/results.md from kept results")
    options.add_argument("--gpus", default="all", help="as in hpo run")
    options.add_argument("--per-device", type=int, help="as in hpo run")
    options.add_argument("--width", type=int, help="as in hpo run")
    arguments = options.parse_args()
    arguments.models = arguments.models.split(",")
    return arguments


def plans_of(arguments: Namespace) -> list[Plan]:
    return [
        Plan(network, arguments.seeds, arguments.arm_seeds, arguments.epochs, arguments.quick)
        for network in arguments.models
    ]


def main() -> None:
    arguments = parse_options()
    if arguments.page:
        page.write()
        return
    log_to_stderr(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    setup = f"{', '.join(arguments.models)} on {'digits' if arguments.quick else 'EMNIST ByClass'}"
    result = Result.begin("paper", setup, arguments.seeds)
    try:
        trainer = Trainer.open(arguments.gpus, arguments.per_device, arguments.width)
        steps = Steps(trainer, plans_of(arguments), result, arguments)
        if not arguments.report:
            steps.run()
        steps.collect()
    except HpoError as error:
        sys.exit(f"benchmarks.paper: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    report.print_tables(result, steps.networks)
    result.write(arguments.json)


class Steps:
    """The steps of the benchmark. Figures are written after each step, so a killed run leaves a result."""

    def __init__(self, trainer: Trainer, plans: Sequence[Plan], result: Result, arguments: Namespace) -> None:
        self._trainer, self._plans, self._result, self._arguments = trainer, plans, result, arguments
        self._reader = Reader(trainer, arguments.shifts)
        self.networks: dict[str, Figures] = {}

    def run(self) -> None:
        for plan in self._plans:
            self._trainer.train(plan.study(), promotes=self._arguments.until != "search")
            self.collect(plan)
        if self._arguments.until == "search":
            return
        for plan in self._plans if self._arguments.arms else ():
            self._trainer.train_all([plan.arm(label, point) for label, point in plan.arms().items()])
            self.collect(plan)
        for plan in self._plans if self._arguments.middle else ():
            self._middle(plan)
            self.collect(plan)
        if self._arguments.until == "validation":
            return
        for plan in self._plans:
            self._test(plan)
            self.collect(plan)

    def collect(self, *plans: Plan) -> None:
        """Read the figures of these networks, by default of all, and write the result."""
        for plan in plans or self._plans:
            self.networks[plan.network] = finite(self._reader.network(plan))
        self._result.values["networks"] = self.networks
        self._result.write(self._arguments.json)

    def _middle(self, plan: Plan) -> None:
        points = self._reader.best_points(plan.name, MIDDLE_CELLS)
        self._trainer.train_all(plan.middle(points))
        winner = self._reader.middle_winner(plan)
        found = self._reader.trained(plan.name)
        if winner is not None and found is not None and winner != found.params:
            self._trainer.train(plan.middle_winner(winner))

    def _test(self, plan: Plan) -> None:
        """Test the models of the study, and the seeds of its arms, once all seeds of a study are trained."""
        for name in (plan.name, *plan.arm_names().values()):
            study, trained = self._trainer.find(name), self._reader.trained(name)
            if study is None or trained is None or not trained.is_complete:
                continue
            models = models_to_test(trained, self._arguments.shifts)
            if name != plan.name:
                models = [model for model in models if len(model.trainings) == 1]
            score_models(self._trainer, study, models)


if __name__ == "__main__":
    main()
