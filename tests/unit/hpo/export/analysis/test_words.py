import numpy as np

from hpo.data.mnist import BY_CLASS
from hpo.export.analysis.error_analysis import analyse
from hpo.export.analysis.folding import folding_of
from hpo.export.analysis.predictions import Predictions
from hpo.export.analysis.words import headline, in_words


def answers(pairs: list[tuple[str, str]]) -> Predictions:
    """Return predictions of ByClass, each with full confidence."""
    index = {name: number for number, name in enumerate(BY_CLASS)}
    labels = np.array([index[truth] for truth, _ in pairs])
    probabilities = np.eye(62, dtype=np.float32)[[index[answer] for _, answer in pairs]]
    return Predictions.of(labels, probabilities, folding_of(BY_CLASS))


def test_page_of_by_class() -> None:
    pairs = [("C", "C")] * 6 + [("c", "C")] * 2 + [("0", "O"), ("2", "3")]
    analysis = analyse(answers(pairs), BY_CLASS)
    line = "accuracy 60.0%; without errors of letter case 80.0%; ceiling if letter case is unknown 80.0%"
    assert headline(analysis) == line
    lines = in_words(analysis, "the test part of emnist-byclass", ["confusion.png"]).splitlines()
    assert lines[:3] == [
        "# Where the errors are",
        "",
        f"10 examples of the test part of emnist-byclass, 4 errors: {line}.",
    ]
    assert "| letter case, one shape | 2 | 50.0% | 80.0% | 80.0% |" in lines
    assert "| 0/O/o, other than case | 1 | 25.0% | 90.0% | 100.0% |" in lines
    assert "| all others | 1 | 25.0% | 100.0% |  |" in lines
    assert "| letter case or 0/O/o or 1/I/l | 80.00% |" in lines
    assert "| `C` `c` | 2 | 50.0% | 0 | 2 | 25.0% |" in lines
    assert "| `C` `c` | 2 | 50.0% | 0 | 2 | 25.0% | 2 |" in lines
    assert "## Folded to the 47 classes of EMNIST ByMerge" in lines
    assert any(row.startswith("| sum of probabilities | 80.00% | ") for row in lines)
    assert "accuracy: on average, the classifier is too sure. Brier score 0.8000." in lines[-5]
    assert lines[-1] == "- [confusion.png](confusion.png)"


def test_page_without_letters_has_no_reasons() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6]], dtype=np.float32)
    text = in_words(analyse(Predictions.of(np.array([0, 1]), probabilities), ("no", "yes")), "x", [])
    assert "2 examples of x, 0 errors: accuracy 100.0%.\n" in text
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles == ["# Where the errors are", "## Calibration"]
