"""The sections of `docs/results.md`: figures of networks as tables and sentences."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.ablation import VARIANTS, variant_cells
from benchmarks.paper.intervals import Interval
from benchmarks.paper.published import NAMES, PUBLISHED, published
from benchmarks.paper.report import interval_cell, mean_cell, params, sentence
from benchmarks.paper.scores import Figures, as_interval, verdict
from benchmarks.results import markdown

Networks = Mapping[str, Figures]

EPOCHS = (1, 2, 5, 10, 15, 20, 30, 40)
"""The epochs of the table of training curves. The last epoch of a network comes besides."""

NORMAL, PUBLISHED_IMAGES = 1.96, 20_000
"""Half of a 95% interval in standard errors, and the number of test images of the published study."""

LOSS, ACCURACY = 0, 2
"""The places of the training loss and the validation accuracy in a curve."""


def test(networks: Networks) -> str:
    """Return accuracy of seeds and ensembles beside the published ones, and the other metrics."""
    heads = ("network", "published %", "hpo %", "95% interval", "as one model %", "95% interval", "reads")
    rows = []
    for network, figures in networks.items():
        scores = figures["test"]
        ensemble = scores.get("ensemble")
        cells = ["-", "-"] if ensemble is None else [mean_cell(ensemble), interval_cell(ensemble)]
        row = [published(network), mean_cell(scores), interval_cell(scores), *cells, str(scores["reads"])]
        rows.append((NAMES[network], *row))
    parts = [
        markdown(heads, rows),
        "*As one model*: the mean of the probabilities of all seeds. *Reads*: how many models of the study "
        "were scored on the test images.\n",
        _comparisons(networks),
        _metrics(networks),
    ]
    shifted = [_shifted(network, figures["test"]) for network, figures in networks.items()]
    return "\n".join([*parts, *filter(None, shifted)])


def _comparisons(networks: Networks) -> str:
    """Return a sentence for each published network that compares the mean of the seeds with its figure.

    The interval includes the sampling of the published test images, as if they were others.
    """
    lines = []
    for network, figures in networks.items():
        if network in PUBLISHED:
            own = as_interval(figures["test"]["interval"])
            share = PUBLISHED[network]["accuracy"] / 100
            theirs = NORMAL * math.sqrt(share * (1 - share) / PUBLISHED_IMAGES)
            value, half = own.value - share, math.hypot(own.half, theirs)
            difference = Interval(value, value - half, value + half, own.has_seeds)
            lines.append(f"- {verdict(f'{NAMES[network]} is', 'the published one', difference)}\n")
    return "".join(lines)


def _metrics(networks: Networks) -> str:
    heads = ("network", "weighted precision %", "weighted recall %", "weighted F1 %", "macro F1 %")
    rows: list[Sequence[str]] = []
    for network, figures in networks.items():
        metrics = figures["test"]["metrics"]
        rows.append((NAMES[network], *(mean_cell(metrics[name]) for name in list(metrics)[1:])))
        if network in PUBLISHED:
            names = ("weighted_precision", "accuracy", "weighted_f1")
            rows.append((f"{NAMES[network]}, published", *(published(network, name) for name in names), "-"))
        if ensemble := figures["test"].get("ensemble"):
            values = (f"{100 * ensemble[name]:.2f}" for name in list(metrics)[1:])
            rows.append((f"{NAMES[network]} as one model", *values))
    return markdown(heads, rows)


def _shifted(network: str, scores: Mapping[str, Any]) -> str:
    if "shifted_ensemble" not in scores:
        return ""
    cell = mean_cell(scores["shifted_ensemble"])
    return f"{NAMES[network]} as one model that averages over small shifts of an image: {cell}%.\n"


def validation(networks: Networks) -> str:
    """Return the accuracy on the mini images, as one model and with shifts, and the gap to training."""
    heads = ("network", "seeds", "%", "95% interval", "as one model %", "with shifts %", "both %")
    rows, gaps = [], []
    for network, figures in networks.items():
        score = figures["validation"]
        keys = ("ensemble", "shifted", "shifted_ensemble")
        cells = [mean_cell(score[key]) if key in score else "-" for key in keys]
        count = f"{len(figures['trainings'])} of {figures['planned']}"
        rows.append((NAMES[network], count, mean_cell(score), interval_cell(score), *cells))
        if "train" in figures:
            gap = 100 * (figures["train"]["mean"] - score["mean"])
            gaps.append((NAMES[network], mean_cell(figures["train"]), mean_cell(score), f"{gap:.2f}"))
    table = markdown(heads, rows)
    if not gaps:
        return table
    words = "The gap between training and validation, both without augmentation and dropout:\n"
    return "\n".join([table, words, markdown(("network", "training %", "validation %", "gap, points"), gaps)])


def curves(networks: Networks) -> str:
    """Return the validation accuracy after some epochs, as means over the seeds."""
    last = max(len(training["curve"]) for figures in networks.values() for training in figures["trainings"])
    epochs = [epoch for epoch in EPOCHS if epoch < last]
    heads = ("network", "", *(f"epoch {epoch}" for epoch in epochs), "last")
    rows = []
    for network, figures in networks.items():
        trainings = figures["trainings"]
        for title, place, scale in (("validation %", ACCURACY, 100), ("training loss", LOSS, 1)):
            cells = [_at(trainings, epoch - 1, place, scale) for epoch in epochs]
            rows.append((NAMES[network], title, *cells, _at(trainings, -1, place, scale)))
    words = (
        "Means over the seeds. The training loss is that with augmentation, dropout and label smoothing.\n"
    )
    return f"{words}\n{markdown(heads, rows)}"


def _at(trainings: Sequence[Figures], index: int, place: int, scale: int) -> str:
    values = [training["curve"][index][place] for training in trainings if index < len(training["curve"])]
    known = [value for value in values if value is not None]
    return f"{scale * fmean(known):.{2 if scale > 1 else 4}f}" if known else ""


def arms(networks: Networks) -> str:
    """Return the parameters found beside the defaults and random cells, and what the difference says."""
    parts = [
        "The parameters found by the search, hpo's defaults, and the first cells of random search, all "
        "trained in full with the same recipe.\n"
    ]
    for network, figures in networks.items():
        shown = figures["arms"]
        heads = ("arm", "parameters", "seeds", "validation %", "test %")
        rows = [("found", *_arm_cells(figures))]
        rows += [(label, *_arm_cells(arm)) for label, arm in shown.items()]
        sentences = []
        for part in ("validation", "test"):
            for label, arm in shown.items():
                if "difference" in arm.get(part, {}):
                    sentences.append(f"- {part}: {sentence(label, arm[part]['difference'])}\n")
        parts += [f"### {NAMES[network]}\n", markdown(heads, rows), "".join(sentences)]
    return "\n".join(parts)


def _arm_cells(arm: Figures) -> list[str]:
    cells = [mean_cell(arm[part]) if part in arm else "-" for part in ("validation", "test")]
    if "validation" not in arm:
        cells[0] = arm["failed"][0] if arm["failed"] else "not finished"
    return [params(arm["params"] or {}), str(len(arm["trainings"])), *cells]


def middle(networks: Networks) -> str:
    """Return the best cells of the search after a part of full training."""
    parts = [
        "The best cells of the search, each trained with one seed for a quarter of the epochs of full "
        "training. The cell with the least validation loss is then trained in full.\n"
    ]
    for network, figures in networks.items():
        cells = figures["middle"]
        chosen = min(range(len(cells)), key=lambda index: cells[index]["loss"])
        rows = [
            (str(rank), params(cell["params"]), f"{cell['loss']:.4f}", f"{100 * cell['accuracy']:.2f}")
            for rank, cell in enumerate(cells, 1)
        ]
        heads = ("rank in the search", "parameters", "loss", "accuracy %")
        words = f"The search's best cell is also the choice of middle fidelity on {NAMES[network]}.\n"
        if chosen:
            words = f"Middle fidelity chooses rank {chosen + 1}."
            arm = figures["arms"].get("middle", {}).get("validation", {})
            if "difference" in arm:
                words += f" Trained in full, {sentence('middle', arm['difference'])}."
            words += "\n"
        parts += [f"### {NAMES[network]}\n", markdown(heads, rows), words]
    return "\n".join(parts)


def ablation(networks: Networks) -> str:
    """Return the variants of the recipe with their differences to it."""
    parts = [
        "Accuracy on the mini images; no test image is read. Differences to the recipe are paired by seed, "
        "with the 95% interval over the seeds (t distribution).\n"
    ]
    for network, figures in networks.items():
        heads = ("variant", "seeds", "accuracy %", "difference, points", "loss")
        rows = [
            (VARIANTS[label].title, *variant_cells(variant)) for label, variant in figures["variants"].items()
        ]
        parts += [
            f"### {NAMES[network]}\n",
            f"Parameters: {params(figures['params'])}.\n",
            markdown(heads, rows),
        ]
    return "\n".join(parts)


def few_images(networks: Networks) -> str:
    """Return the losses of networks that were trained on a few images."""
    parts = [
        "EnsNet needs a large GPU: an image costs 12,000 times as much as with LeNet. On a CPU it trains on "
        "the first images of each class. Half of these images are for validation; no test image is read.\n"
    ]
    for network, figures in networks.items():
        rows = [
            (str(epoch), f"{loss:.4f}", f"{validation:.4f}")
            for epoch, (loss, validation, _) in enumerate(figures["trainings"][0]["curve"], 1)
        ]
        heads = ("epoch", "training loss", "validation loss")
        parts += [f"### {NAMES[network]}\n", markdown(heads, rows)]
    return "\n".join(parts)


def ceilings(networks: Networks) -> str:
    """Return the accuracy of perfect classifiers that cannot tell some classes apart."""
    figures = next(iter(networks.values()))
    rows = [(row["unknown"], f"{100 * row['accuracy']:.2f}") for row in figures["ceilings"]]
    words = (
        "The accuracy of a perfect classifier that cannot make the named distinctions, and answers the most "
        "frequent class instead. It follows from the class counts of the training images:\n"
    )
    return f"{words}\n{markdown(('unknown', 'accuracy %'), rows)}"


def time(networks: Networks) -> str:
    """Return the device seconds of search and full training."""
    heads = ("network", "search s", "trials", "epochs", "full training s", "device")
    rows = []
    for network, figures in networks.items():
        search, trainings = figures["search"], figures["trainings"]
        seconds = " ".join(f"{training['seconds']:.0f}" for training in trainings)
        devices = ", ".join(sorted({training["device"] for training in trainings}))
        counts = [f"{search['seconds']:.0f}", str(search["trials"]), str(search["epochs"])]
        rows.append((NAMES[network], *counts, seconds, devices))
    return (
        "Device seconds: the share of a device that a trial had. Other work on the machine adds to them.\n\n"
        + markdown(heads, rows)
    )
