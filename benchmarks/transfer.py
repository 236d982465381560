"""Compare transfers of a bundle with training from scratch, on a small data set.

`last`: the new last layer is trained on frozen features, at the paper's learning rate. `all`: the whole
network is trained from the weights of the bundle. `scratch`: the whole network is trained from random
weights. The learning rate of `all` and `scratch` is the one with the least validation loss, as the mean over
the seeds. A seed fixes the validation part, new weights and the order of the images.

Then each network is scored on the test part. Accuracies are means over the seeds, that of the test part with
the standard deviation. The interval is the 95% interval of a single network, which includes the sampling of
test images.

The bundle is one that `hpo export` or `hpo run` has written, such as of LeNet on EMNIST ByClass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

from benchmarks.command import numbers, parser
from benchmarks.results import Result
from hpo.data.arrays import open_mapped
from hpo.data.dataset import Dataset
from hpo.export.bundle import Bundle, open_bundle
from hpo.export.fit import fit_dataset
from hpo.export.metrics import Metrics
from hpo.export.scoring import HeldOutPart
from hpo.settings import Settings
from hpo.training.criteria import criterion_of
from hpo.transfer.network import TransferNetwork
from hpo.transfer.recipe import LEARNING_RATES, Layers, TransferRecipe
from hpo.transfer.training import Trained, TransferImages, train
from hpo.values.epoch import VALIDATION_ACCURACY, VALIDATION_LOSS

RATES = (0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to train: which layers, for how many epochs, from which weights, at which learning rates."""

    name: str
    layers: Layers
    epochs: int
    keeps_weights: bool
    rates: Sequence[float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A bundle, a data set in the form that its network takes, and the seeds."""

    source: Bundle
    dataset: Dataset
    seeds: Sequence[int]

    def best_rate(self, method: Method) -> tuple[float, list[Trained]]:
        """Return the learning rate with the least mean validation loss, with the trainings of all seeds."""
        by_rate = {rate: [self._train(method, rate, seed) for seed in self.seeds] for rate in method.rates}
        return min(by_rate.items(), key=lambda entry: _mean_of(entry[1], VALIDATION_LOSS))

    def test(self, trained: Trained) -> Metrics:
        """Return the metrics on the test part."""
        spec = self._network.spec
        network = self._network.build()
        network.load_state_dict(trained.weights)
        criterion = criterion_of(spec.shape, None, {})
        metrics = HeldOutPart(self.dataset).score(network, spec.normalization, "cpu", criterion).metrics
        assert isinstance(metrics, Metrics)
        return metrics

    @property
    def _network(self) -> TransferNetwork:
        assert self.dataset.classes is not None
        return TransferNetwork.of(self.source, self.dataset.classes)

    def _train(self, method: Method, rate: float, seed: int) -> Trained:
        network = self._network if method.keeps_weights else replace(self._network, kept={})
        images = TransferImages.of(self.dataset.load_train(), seed)
        return train(
            network, images, TransferRecipe(method.layers, method.epochs, rate, seed=seed), None, "cpu"
        )


def main() -> None:
    options = parser(__doc__, quick="one seed, one epoch, one learning rate")
    options.add_argument("bundle", type=Path, help="the bundle to transfer from")
    options.add_argument("--data", default="digits", help="the data set (default digits)")
    options.add_argument("--seeds", type=numbers, default=[0, 1, 2, 3, 4], help="default 0,1,2,3,4")
    options.add_argument("--epochs", type=int, default=5, help="epochs of each training (default 5)")
    options.add_argument("--longer", type=int, default=40, help="epochs of longer trainings (default 40)")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.epochs, arguments.longer = [0], 1, 2
    rates = (LEARNING_RATES["all"],) if arguments.quick else RATES
    methods = [
        Method("last", "last", arguments.epochs, True, (LEARNING_RATES["last"],)),
        Method("all", "all", arguments.epochs, True, rates),
        Method("scratch", "all", arguments.epochs, False, rates),
        Method("longer all", "all", arguments.longer, True, rates),
        Method("longer scratch", "all", arguments.longer, False, rates),
    ]
    source, settings = open_bundle(arguments.bundle), Settings.from_environment()
    dataset = fit_dataset(open_mapped(arguments.data, settings.data_path, settings.arrays_path), source.spec)
    comparison = Comparison(source, dataset, arguments.seeds)
    origin, count = source.provenance.get("data"), len(dataset.load_train())
    setup = f"{source.spec.name} of {origin} on {arguments.data}, {count:,} training images"
    result = Result.begin("transfer", setup, len(arguments.seeds))
    heads = ("method", "epochs", "lr", "validation", "test", "interval")
    table = result.table("Accuracy, mean and standard deviation over the seeds", heads, first=16)
    for method in methods:
        rate, trained = comparison.best_rate(method)
        tests = [comparison.test(one) for one in trained]
        accuracies = [metrics.accuracy for metrics in tests]
        lows, highs = zip(*(metrics.accuracy_interval for metrics in tests), strict=True)
        table.add(
            method.name,
            str(method.epochs),
            f"{rate:g}",
            f"{_mean_of(trained, VALIDATION_ACCURACY):.2%}",
            f"{mean(accuracies):.2%} ± {stdev(accuracies) if len(accuracies) > 1 else 0:.2%}",
            f"{mean(lows):.2%} to {mean(highs):.2%}",
        )
        result.median(f"{method.name}, test accuracy", accuracies)
        result.values[method.name] = {
            "lr": rate,
            "validation accuracy": [one.kept.metrics[VALIDATION_ACCURACY] for one in trained],
            "test accuracy": accuracies,
        }
    result.write(arguments.json)


def _mean_of(trained: Sequence[Trained], metric: str) -> float:
    return mean(one.kept.metrics[metric] for one in trained)


if __name__ == "__main__":
    main()
