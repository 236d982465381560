import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hpo.data import open_dataset
from hpo.data.mnist import BY_CLASS
from hpo.export.analysis.ceilings import ceiling, ceilings_of

UPPER_AND_LOWER = {
    "C": (10094, 2854), "I": (11946, 2725), "J": (3762, 1896), "K": (2468, 2491), "L": (5076, 15318),
    "M": (9002, 2645), "O": (24983, 2749), "P": (8347, 2448), "S": (20764, 2699), "U": (12602, 2830),
    "V": (4637, 2910), "W": (4695, 2697), "X": (2771, 2822), "Y": (4743, 2365), "Z": (2701, 2725),
}  # fmt: skip
"""Examples of the letters that ByMerge merges, in the training part of EMNIST ByClass."""

TOTAL = 697_932


def test_ceilings_of_by_class() -> None:
    counts = {"0": 34585, "1": 38374}
    for letter, (upper, lower) in UPPER_AND_LOWER.items():
        counts |= {letter: upper, letter.lower(): lower}
    counts["2"] = TOTAL - sum(counts.values())  # all other classes are told apart: one stands for them
    array = np.array([counts.get(name, 0) for name in BY_CLASS])
    assert [(row.unknown, round(100 * row.accuracy, 2)) for row in ceilings_of(BY_CLASS, array)] == [
        ("letter case", 94.01),
        ("letter case or 0/O/o or 1/I/l", 87.64),
        ("letter case or 0/O/o or 1/I/i/L/l", 86.52),
    ]


def test_ceiling_answers_the_most_frequent_class_of_each_set() -> None:
    counts = np.array([5, 3, 1, 4, 4])
    assert ceiling(counts, ((0, 1), (3, 4))) == pytest.approx(1 - (3 + 4) / 17)
    assert ceiling(counts, ()) == 1


@pytest.mark.parametrize(
    ("classes", "unknown"),
    [
        (tuple("0123456789"), []),
        (tuple("abcABC"), ["letter case"]),
        (tuple("ghijkl"), ["i/l"]),
        (("cat", "C", "dog"), []),
        (tuple("01IOL"), ["0/O or 1/I/L"]),  # merged letters: L stands for both cases
    ],
)
def test_ceilings_follow_from_the_names(classes: tuple[str, ...], unknown: list[str]) -> None:
    counts = np.arange(1, len(classes) + 1)
    assert [row.unknown for row in ceilings_of(classes, counts)] == unknown


@pytest.mark.emnist
def test_ceilings_of_the_real_images() -> None:
    dataset = open_dataset("emnist-byclass", Path(os.environ["HPO_DATA_DIR"]))
    assert dataset.classes is not None
    labels = [dataset.classes[label] for label in dataset.load_test().labels]
    counts = Counter(labels)
    array = np.array([counts[name] for name in dataset.classes])
    case, ambiguous, lowest = (row.accuracy for row in ceilings_of(dataset.classes, array))
    always_the_more_frequent = sum(
        max(counts[letter], counts[letter.lower()]) for letter in UPPER_AND_LOWER
    ) + sum(count for name, count in counts.items() if name.upper() not in UPPER_AND_LOWER)
    assert case == pytest.approx(always_the_more_frequent / len(labels))
    assert 0.84 < lowest < ambiguous < 0.9 < case < 0.96
