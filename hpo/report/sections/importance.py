"""Importance of the parameters."""

from hpo.report.blocks import Block, Figure, Section, Text
from hpo.report.ends import ends
from hpo.report.importance import REPEATS, Importances, importances, measurable, needed
from hpo.report.plots import BLUE, axis, label, layout, number
from hpo.report.positions import is_varied
from hpo.report.study_data import StudyData
from hpo.values.wording import counted, listed

LITTLE = 0.3
"""Explained share of the variance below which importances mean little."""


def importance(data: StudyData) -> Section | None:
    """Return the importances with their errors, or why there are none. None without trained trials."""
    known, space = ends(data), data.study.spec.space
    if not known:
        return None
    names = measurable(space, known)
    if len(names) < 2:
        return None
    if len(known) < needed(names):
        reason = (
            f"{counted(len(known), 'trial')} {'is' if len(known) == 1 else 'are'} too few to say which of "
            f"{len(names)} parameters matter: {needed(names)} are needed."
        )
        return Section("importance", "Importance", [Text([reason])])
    found = importances(space, known, names)
    if found is None:
        return None
    predicted = sum(not end.is_actual for end in known)
    sentences = [
        f"Of what single parameters explain of the differences between {found.n} trials, the share of each, "
        "by fANOVA.",
        _verdict(found),
    ]
    if predicted:
        sentences.append(f"The ends of {predicted} of {len(known)} trials are predicted from their curves.")
    left_out = [name for name in space.domains if name not in names and is_varied(space.domains[name])]
    if left_out:
        sentences.append(
            f"Parameters that do not apply to every trial are left out: {listed(left_out, 'and')}."
        )
    return Section("importance", "Importance", [Text(sentences), _figure(found)])


def _verdict(found: Importances) -> str:
    if found.explained < LITTLE:
        return (
            f"A model explains only {max(0.0, found.explained):.0%} of the differences in trials it has not "
            "seen, so importances mean little here."
        )
    first, second = found.parameters[:2]
    is_clear = first.low > second.high
    order = f"{first.name} matters most" if is_clear else f"{first.name} and {second.name} may matter equally"
    return f"A model explains {found.explained:.0%} of the differences in trials it has not seen: {order}."


def _figure(found: Importances) -> Block:
    parameters = found.parameters[::-1]
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [label(entry.name, 30) for entry in parameters],
        "x": [number(entry.mean) for entry in parameters],
        "marker": {"color": BLUE},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [number(entry.high - entry.mean) for entry in parameters],
            "arrayminus": [number(entry.mean - entry.low) for entry in parameters],
        },
        "hoverinfo": "x+y",
    }
    x = axis("share of the variance", tickformat=".0%", rangemode="tozero")
    caption = f"Importance of the parameters. Bars are 90% intervals over {REPEATS} bootstrap samples."
    height = 110 + 30 * len(parameters)
    return Figure(caption, [trace], layout(x, axis("", type="category"), height, showlegend=False))
