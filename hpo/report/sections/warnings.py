"""Assumptions of the search that fail, each in words and with what to do."""

from collections.abc import Callable, Iterator, Sequence

from optuna.trial import TrialState

from hpo.report.blocks import Section, Warnings
from hpo.report.ends import curve_of
from hpo.report.positions import is_varied, position
from hpo.report.statistics import rank_correlation, share
from hpo.report.study_data import StudyData
from hpo.report.wording import gain, is_known
from hpo.study.failures import one_line
from hpo.values.domains import Choices, Domain, Value
from hpo.values.wording import counted, value_text

FEW_COMPLETED = 10
"""Completed trials below which figures about the search say little."""

EDGE = 0.05
"""Share of a range, on its scale, that counts as its edge."""

TOP = 5
"""The best trials, of which most must lie at an edge."""

FAILED_SHARE = 0.1
LOW_CORRELATION = 0.5
FEWEST_RANKED = 8
"""Completed trials below which a rank correlation of rung and end proves nothing."""


def warnings(data: StudyData) -> Section | None:
    """Return a sentence for each assumption that fails, None if none does."""
    found = [sentence for check in CHECKS for sentence in check(data)]
    if not found:
        return None
    return Section("warnings", "Warnings", [Warnings(found)])


def _few_completed(data: StudyData) -> Iterator[str]:
    completed, ended = data.completed("search"), sum(_is_ended(data))
    if ended and len(completed) < min(FEW_COMPLETED, data.study.trials):
        yield (
            f"Only {counted(len(completed), 'search trial')} completed: comparisons, importances and effects "
            "rest on few values. A larger search.trials or a smaller pruner.reduction completes more."
        )


def _is_ended(data: StudyData) -> list[bool]:
    return [trial.row.state.is_finished() for trial in data.trials("search")]


def _at_the_edge(data: StudyData) -> Iterator[str]:
    completed = data.completed("search")
    if len(completed) < 2:
        return
    best = [trial.row.point for trial in completed[:TOP]]
    point = best[0]
    for name, domain in data.study.spec.space.domains.items():
        edges = [edge_of(each[name], domain) for each in best if name in each]
        edge = edges[0] if name in point else None
        if edge is not None and edges.count(edge) > len(best) / 2:
            yield (
                f"The best trials have {name} at the {edge} end of its range, trial "
                f"{completed[0].row.number} {value_text(point[name])}: "
                "better values may lie outside. A fork with a wider range (hpo study fork) keeps all trials."
            )


def edge_of(value: Value, domain: Domain) -> str | None:
    """Return at which end of its domain a number lies, None if at neither.

    A list needs three numbers: of two, one is always at an end. A lower end at 0 is often one of the
    parameter, such as of a momentum.
    """
    if isinstance(value, bool | str):
        return None
    if isinstance(domain, Choices):
        numbers = [each for each in domain.values if not isinstance(each, bool | str)]
        if len(numbers) != len(domain.values) or len(numbers) < 3:
            return None
        domain = Choices(tuple(sorted(numbers)))
    place, low = position(value, domain), domain.at(0)
    if place is None or not is_varied(domain):
        return None
    if place <= EDGE and low != 0:
        return "lower"
    return "upper" if place >= 1 - EDGE else None


def _noise(data: StudyData) -> Iterator[str]:
    completed = data.completed("search")
    if len(completed) < 3:
        return
    best = completed[0].row
    differences = [gain(best, trial.row, data.objective) for trial in completed[1:]]
    if any(half_width is None for _, half_width in differences):
        return
    close = sum(not is_known(*difference) for difference in differences)
    if close:
        others = counted(len(completed) - 1, "other completed trial")
        yield (
            f"{close} of {others} {'is' if close == 1 else 'are'} not known to be worse than trial "
            f"{best.number}: differences are smaller than the noise of the validation. Promote several "
            "trials (promotion.top), or validate on more images (data.mini, data.validation)."
        )


def _crossing(data: StudyData) -> Iterator[str]:
    rung = first_rung(data)
    if rung is None:
        return
    objective = data.objective
    pairs = []
    for trial in data.completed("search"):
        curve = curve_of(trial, objective)
        if rung in curve and trial.row.value is not None and max(curve) > rung:
            pairs.append((curve[rung], objective.cost(trial.row.value)))
    correlation = rank_correlation(pairs) if len(pairs) >= FEWEST_RANKED else None
    if correlation is not None and correlation.value < LOW_CORRELATION:
        yield (
            f"Learning curves cross: the rank correlation of epoch {rung} and the end is "
            f"{correlation.describe()} over {len(pairs)} completed trials. A later first rung "
            "(pruner.min_epochs) ends fewer good trials too early."
        )


def first_rung(data: StudyData) -> int | None:
    """Return the first epoch at which the pruner decides, None if nothing is pruned or paused."""
    section = data.study.spec.pruner
    pauses = data.study.spec.make_pruner().pause_epochs
    if pauses:
        return pauses[0]
    epoch = getattr(section, "min_epochs", None)
    return epoch if isinstance(epoch, int) and epoch < data.study.spec.search.epochs else None


def _failures(data: StudyData) -> Iterator[str]:
    ended = sum(_is_ended(data))
    failed = [trial for trial in data.trials("search") if trial.row.state == TrialState.FAIL]
    if ended and len(failed) > FAILED_SHARE * ended:
        estimate = share(len(failed), ended)
        yield (
            f"{len(failed)} of {counted(ended, 'ended trial')} failed ({estimate.describe('.0%')}), trial "
            f"{failed[0].row.number} with {one_line(failed[0].row.record.reason)}. "
            f"Once the cause is mended: hpo study retry {data.study.name}"
        )


def _lost(data: StudyData) -> Iterator[str]:
    lost = sum(event.kind == "lost" for _, event in data.events)
    if lost:
        yield (
            f"Workers were lost {counted(lost, 'time')} with a trial. The trials went on from their "
            "checkpoints, but the machine may be short of memory."
        )


def _foreign(data: StudyData) -> Iterator[str]:
    if count := len(data.history.foreign):
        yield f"This page leaves out {counted(count, 'trial')} of other programs."


def _stopped(data: StudyData) -> Iterator[str]:
    mark = data.stopped.get("search")
    if mark is not None and mark.by == "failures":
        yield f"The search stopped because its trials fail: {one_line(mark.reason)}."


CHECKS: Sequence[Callable[[StudyData], Iterator[str]]] = (
    _stopped,
    _failures,
    _few_completed,
    _noise,
    _at_the_edge,
    _crossing,
    _lost,
    _foreign,
)
"""What checks each assumption, the gravest first."""
