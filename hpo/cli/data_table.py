"""The table of a data set, as text."""

from hpo.cli.layout import Screen, Table
from hpo.data import Labelled
from hpo.data.statistics import Statistics


def data_table(name: str, train: Labelled, figures: Statistics) -> str:
    """Return the examples per class of a data set, and the shape and statistics of its inputs."""
    mean = ", ".join(f"{value:.4f}" for value in figures.mean)
    std = ", ".join(f"{value:.4f}" for value in figures.std)
    nouns = f"{train.noun}s"
    if train.is_images:
        height, width = train.size
        shape = f"{len(train):,} images of {height}x{width}, channels {train.channels}; pixels / 255"
    else:
        shape = f"{len(train):,} inputs of shape {train.shape}"
    inputs = f"{shape}: mean {mean}, standard deviation {std}"
    if figures.counts:
        rows = [(label, f"{count:,}", f"{count / len(train):.2%}") for label, count in figures.counts.items()]
        table = Screen.of_stdout().show(Table(f"{name}, training {nouns}", ("class", nouns, "share"), rows))
        return f"{table}\n\n{inputs}"
    targets = train.labels
    numbers = "a number" if targets.ndim == 1 else f"{targets.shape[1]} numbers"
    moments = f"mean {targets.mean():.4f}, standard deviation {targets.std():.4f}"
    return f"{inputs}\ntargets of {numbers}: from {targets.min():.4f} to {targets.max():.4f}, {moments}"
