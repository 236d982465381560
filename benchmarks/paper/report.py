"""The tables that the benchmark prints."""

from collections.abc import Mapping
from typing import Any

from benchmarks.paper.scores import Figures, as_interval, verdict
from benchmarks.results import Result

HEADS = ("network", "seeds", "validation %", "95% interval", "train %", "epochs", "parameters")


def print_tables(result: Result, networks: Mapping[str, Figures]) -> None:
    """Add the tables of all networks to a result, which prints them."""
    trained = {network: figures for network, figures in networks.items() if "validation" in figures}
    table = result.table("Accuracy on the mini images", HEADS)
    for network, figures in trained.items():
        table.add(network, *validation_cells(figures), params(figures["params"]))
    _print_ensembles(result, trained)
    _print_tests(result, trained)
    for network, figures in trained.items():
        _print_arms(result, network, figures)
        _print_middle(result, network, figures)
    title = "Device seconds: of the search, and of each full training"
    table = result.table(title, ("network", "search s", "full s", "device"))
    for network, figures in trained.items():
        seconds = [f"{training['seconds']:.0f}" for training in figures["trainings"]]
        devices = sorted({training["device"] for training in figures["trainings"]})
        table.add(network, f"{figures['search']['seconds']:.0f}", " ".join(seconds), ", ".join(devices))


def validation_cells(figures: Figures) -> list[str]:
    """Return seeds done and planned, validation accuracy, its interval, train accuracy and kept epochs."""
    score = figures["validation"]
    epochs = " ".join(str(training["kept_epoch"]) for training in figures["trainings"])
    train = mean_cell(figures["train"]) if "train" in figures else ""
    count = f"{len(figures['trainings'])} of {figures['planned']}"
    return [count, mean_cell(score), interval_cell(score), train, epochs]


def mean_cell(score: Mapping[str, Any]) -> str:
    """Return an accuracy in percent, with its standard deviation over the seeds."""
    text = f"{100 * score['mean']:.2f}"
    return text if score["deviation"] is None else f"{text} ± {100 * score['deviation']:.2f}"


def interval_cell(score: Mapping[str, Any]) -> str:
    """Return the 95% interval of an accuracy in percent; in brackets, if of the images alone."""
    interval = as_interval(score["interval"])
    text = f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
    return text if interval.has_seeds else f"({text})"


def params(point: Mapping[str, Any]) -> str:
    """Return parameters in a few words."""
    return " ".join(f"{name}={value:g}" for name, value in point.items())


def _print_ensembles(result: Result, networks: Mapping[str, Figures]) -> None:
    columns = {"ensemble": "ensemble", "shifted": "with shifts", "shifted_ensemble": "both"}
    rows = {
        network: [
            mean_cell(figures["validation"][key]) if key in figures["validation"] else "" for key in columns
        ]
        for network, figures in networks.items()
    }
    if any(any(row) for row in rows.values()):
        heads = ("network", *columns.values())
        table = result.table("Accuracy on the mini images, as one model and with shifts", heads)
        for network, row in rows.items():
            table.add(network, *row)


def _print_tests(result: Result, networks: Mapping[str, Figures]) -> None:
    tested = {network: figures["test"] for network, figures in networks.items() if "test" in figures}
    if not tested:
        return
    heads = ("network", "test %", "95% interval", "weighted F1 %", "macro F1 %", "ensemble %", "reads")
    table = result.table("Accuracy on the test images", heads)
    for network, test in tested.items():
        f1, macro = (mean_cell(test["metrics"][name]) for name in ("weighted_f1", "macro_f1"))
        ensemble = mean_cell(test["ensemble"]) if "ensemble" in test else ""
        table.add(network, mean_cell(test), interval_cell(test), f1, macro, ensemble, str(test["reads"]))


def _print_arms(result: Result, network: str, figures: Figures) -> None:
    arms = {label: arm for label, arm in figures["arms"].items() if "validation" in arm}
    if not arms:
        return
    heads = ("arm", "seeds", "validation %", "95% interval", "parameters")
    table = result.table(f"{network}: does the search pay?", heads)
    table.add("found", *validation_cells(figures)[:3], params(figures["params"]))
    for label, arm in arms.items():
        table.add(label, *validation_cells(arm)[:3], params(arm["params"]))
    for label, arm in arms.items():
        print(sentence(label, arm["validation"]["difference"]))


def sentence(label: str, difference: Mapping[str, Any]) -> str:
    """Return how the parameters found compare with an arm."""
    names = {"default": "the defaults", "middle": "those that middle fidelity chose"}
    other = names.get(label, f"the cell {label}")
    return verdict("the parameters found are", other, as_interval(difference))


def _print_middle(result: Result, network: str, figures: Figures) -> None:
    if not figures["middle"]:
        return
    heads = ("rank in search", "loss", "accuracy %", "epochs", "parameters")
    table = result.table(f"{network}: the best cells of the search by a part of full training", heads)
    for rank, cell in enumerate(figures["middle"], 1):
        accuracy = f"{100 * cell['accuracy']:.2f}"
        table.add(str(rank), f"{cell['loss']:.4f}", accuracy, str(cell["epochs"]), params(cell["params"]))
