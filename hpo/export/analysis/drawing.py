"""Pictures of an analysis: the confusion matrix and the reliability diagram."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hpo.export.analysis.calibration import Calibration

COUNTED = 20
"""The most classes whose counts are written into the cells."""

NAMED = 120
"""The most classes whose names are written beside the cells."""

DPI = 110

LARGEST = 14.0
"""The longest side of a confusion matrix in inches."""


def draw_confusion(confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> bytes:
    """Return the confusion matrix `(classes, classes)`, row true, as a PNG.

    A cell is coloured by its share of the row. The scale is a square root, so that rare errors are visible.
    """
    count = len(classes)
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    side = min(LARGEST, max(4.0, 1.8 + 0.5 * count) if count <= COUNTED else 3 + 0.17 * count)  # inches
    figure = Figure(figsize=(side + 0.8, side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    axes.set(xlabel="predicted class", ylabel="true class")
    _name_classes(axes, classes, size=min(8.0, 50 * side / count) if count > COUNTED else 10)
    if count <= COUNTED:
        for row, column in np.argwhere(confusion):
            color = "white" if shares[row, column] > 0.35 else "black"
            axes.text(column, row, f"{confusion[row, column]:,}", ha="center", va="center", color=color)
    bar = figure.colorbar(
        image, ax=axes, shrink=0.8, aspect=30, format=PercentFormatter(1), label="share of the true class"
    )
    bar.set_ticks([0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1])
    return _png(figure)


def _name_classes(axes: Axes, classes: Sequence[str], size: float) -> None:
    count = len(classes)
    if count > NAMED:
        axes.set_title(f"{count:,} classes, by number", fontsize=10)
        return
    long = max(map(len, classes)) > 2
    plain = [name.replace("$", r"\$") for name in classes]  # a dollar sign would begin a formula
    axes.set_xticks(range(count), plain, fontsize=size, rotation=90 if long else 0)
    axes.set_yticks(range(count), plain, fontsize=size)
    axes.tick_params(length=0, labeltop=not long and count > COUNTED, labelright=not long and count > COUNTED)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.5)
    axes.tick_params(which="minor", length=0)


def draw_reliability(found: Calibration) -> bytes:
    """Return the reliability diagram as a PNG: accuracy over confidence, and the number of examples."""
    filled = [row for row in found.bins if row.count]
    width = 0.92 / len(found.bins)
    centres = [(row.low + row.high) / 2 for row in filled]
    accuracy = np.array([row.accuracy for row in filled], dtype=np.float64)
    intervals = np.array([row.interval for row in filled])  # (bins, 2)
    errors = np.abs(intervals.T - accuracy)
    figure = Figure(figsize=(5, 6), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=1, label="perfect calibration")
    upper.bar(centres, accuracy, width, color="tab:blue", alpha=0.3, label="accuracy of the bin")
    upper.errorbar(
        [row.confidence for row in filled], accuracy, errors, fmt="o", markersize=4, capsize=2,
        color="tab:blue", label="the same at the bin's mean confidence, with 95% interval",
    )  # fmt: skip
    upper.set(ylabel="accuracy", ylim=(-0.02, 1.02), xlim=(0, 1))
    upper.yaxis.set_major_formatter(PercentFormatter(1))
    upper.set_title(f"ECE {found.ece:.2%} (by chance {found.ece_chance:.2%})", fontsize=10)
    lower.bar(centres, [row.count for row in filled], width, color="0.6")
    lower.set(ylabel="examples", xlabel="confidence", yscale="log", ylim=(0.5, None))
    lower.xaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(loc="outside lower center", fontsize=8)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)  # no window system, and no state that figures share
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
