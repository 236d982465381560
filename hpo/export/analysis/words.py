"""The analysis of errors in words: a Markdown page that a person reads first."""

from collections.abc import Iterable, Iterator, Sequence

from hpo.export.analysis.calibration import Calibration
from hpo.export.analysis.error_analysis import ErrorAnalysis, FoldedAccuracy
from hpo.export.analysis.pairs import ConfusedPair

ROWS = 15
"""The most rows of a table of pairs."""


def in_words(analysis: ErrorAnalysis, about: str, pictures: Sequence[str]) -> str:
    """Return the page. `about`: the examples, such as "the test part of digits". `pictures`: file names."""
    return "\n".join(_lines(analysis, about, pictures)) + "\n"


def headline(analysis: ErrorAnalysis) -> str:
    """Return the accuracy, and what limits it, in one line."""
    parts = [f"accuracy {analysis.accuracy:.1%}"]
    case = next((group for group in analysis.groups if group.title.startswith("letter case, one")), None)
    if case is not None and case.ceiling is not None:
        parts += [
            f"without errors of letter case {case.forgiven:.1%}",
            f"ceiling if letter case is unknown {case.ceiling:.1%}",
        ]
    return "; ".join(parts)


def _lines(analysis: ErrorAnalysis, about: str, pictures: Sequence[str]) -> Iterator[str]:
    yield "# Where the errors are"
    yield ""
    counts = f"{_counted(analysis.n, 'example')} of {about}, {_counted(analysis.errors, 'error')}"
    yield f"{counts}: {headline(analysis)}."
    if len(analysis.groups) > 1:
        yield from _groups(analysis)
    if analysis.ceilings:
        yield from _ceilings(analysis)
    if analysis.pairs:
        yield from _section("Most confused pairs", _pair_table(analysis.pairs))
    if analysis.case_pairs:
        yield from _section("Letters in both cases", _pair_table(analysis.case_pairs, guess=True))
        yield ""
        yield "A guess is the answer of the more frequent case for every example of the letter."
    if analysis.folded is not None:
        yield from _folded(analysis.folded)
    yield from _calibration(analysis.calibration)
    if pictures:
        yield from _section("Pictures", [f"- [{name}]({name})" for name in pictures])


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    yield from lines


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _groups(analysis: ErrorAnalysis) -> Iterator[str]:
    rows, forgiven = [], analysis.accuracy
    for group in analysis.groups:
        forgiven = group.forgiven
        limit = "" if group.ceiling is None else f"{group.ceiling:.1%}"
        rows.append((group.title, f"{group.errors:,}", f"{group.share:.1%}", f"{forgiven:.1%}", limit))
    columns = ("confusion", "errors", "share", "accuracy if forgiven", "ceiling if never told apart")
    yield from _section("Reasons", _table(columns, rows))
    yield ""
    yield "An error counts in the first row that explains it, and is forgiven from that row on. A ceiling is"
    yield "the accuracy of a classifier without other errors that answers the most frequent of these classes."


def _ceilings(analysis: ErrorAnalysis) -> Iterator[str]:
    rows = [(row.unknown, f"{row.accuracy:.2%}") for row in analysis.ceilings]
    yield from _section("Ceilings", _table(("a perfect classifier without", "accuracy"), rows))


def _pair_table(pairs: Sequence[ConfusedPair], guess: bool = False) -> Iterator[str]:
    columns = ["pair", "errors", "share of errors", "first as second", "second as first", "rate"]
    rows = [
        [
            " ".join(f"`{name}`" for name in pair.classes),
            f"{pair.errors:,}",
            f"{pair.share:.1%}",
            f"{pair.forward:,}",
            f"{pair.backward:,}",
            f"{pair.rate:.1%}",
            *([f"{pair.guess:,}"] if guess else []),
        ]
        for pair in pairs[: None if guess else ROWS]
    ]
    return _table([*columns, "errors of a guess"] if guess else columns, rows)


def _folded(folded: FoldedAccuracy) -> Iterator[str]:
    rows = [
        (title, f"{rate.accuracy:.2%}", f"{rate.interval[0]:.2%} to {rate.interval[1]:.2%}")
        for title, rate in (
            ("sum of probabilities", folded.of_sums),
            ("most probable class", folded.of_predictions),
        )
    ]
    columns = ("prediction", "accuracy", "95% interval")
    yield from _section(f"Folded to {folded.title}", _table(columns, rows))


def _calibration(found: Calibration) -> Iterator[str]:
    sure = "too sure" if found.excess > 0 else "not sure enough"
    text = [
        f"ECE {found.ece:.2%} ± {found.ece_error:.2%} (standard error). "
        f"A perfectly calibrated classifier has {found.ece_chance:.2%} on as many examples.",
        f"The mean confidence is {abs(found.excess):.2%} {'above' if found.excess > 0 else 'below'} the "
        f"accuracy: on average, the classifier is {sure}. Brier score {found.brier:.4f}.",
    ]
    yield from _section("Calibration", text)
