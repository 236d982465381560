"""The events of a study in words."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from hpo.store.events import Event
from hpo.study.live import StageEvent
from hpo.values.stage import Stage
from hpo.values.wording import counted, listed

LAUNCHED = re.compile(r"(?P<label>.+)-[0-9a-f]{8}")
"""The name of a worker that a launcher started: the label of its slot, and what makes the name unique."""

NUMBERS = 8
"""Most trials that an event names."""

WORDS: Mapping[str, str] = {
    "claimed": "began on {worker}",
    "resumed": "resumed {epoch} on {worker}",
    "taken over": "taken over by {worker}, {from}",
    "paused": "paused {epoch}",
    "released": "put back into the queue by {worker}",
    "handed back": "{runs} alone next: {reason}",
    "lost": "lost the worker {worker}",
    "completed": "completed {epochs}",
    "pruned": "pruned {epochs}",
    "failed": "failed: {reason}",
    "promoted": "promoted to full training",
    "tested": "tested on the test part",
    "exported": "exported to {directory}",
}
"""What happened, by the kind of the event."""


def worker_label(name: str) -> str:
    """Return the short name of a worker: of a launched one the label of its slot."""
    match = LAUNCHED.fullmatch(name)
    return name if match is None else match["label"]


def event_lines(events: Sequence[StageEvent]) -> list[str]:
    """Return a line for each event, or for several in a row that say the same of several trials."""
    return [_line(list(group)) for _, group in groupby(events, key=_said)]


def _said(entry: StageEvent) -> tuple[object, ...]:
    """Return all that the line of an event says, but for the number and the time."""
    event = entry.event
    return entry.stage, _happened(event, are_several=False), event.worker


def _line(group: Sequence[StageEvent]) -> str:
    event = group[-1].event
    subject = _trials(group[0].stage, [entry.event.trial for entry in group])
    return f"{event.at.astimezone():%H:%M:%S}  {subject} {_happened(event, len(group) > 1)}"


def _trials(stage: Stage, numbers: Sequence[int]) -> str:
    noun = "trial" if stage == "search" else "full training"
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    if len(numbers) > NUMBERS:
        return counted(len(numbers), noun)
    return f"{noun}s {listed(map(str, numbers), 'and')}"


def _happened(event: Event, are_several: bool) -> str:
    """Return what happened. Another version of hpo may have written a kind or a detail that is not known."""
    detail = event.detail
    words = {
        "worker": "another worker" if event.worker is None else worker_label(event.worker),
        "from": f"from epoch {detail['epoch']}" if "epoch" in detail else "from the start",
        "epoch": f"after epoch {detail.get('epoch', 0)}",
        "epochs": f"after {counted(detail['epochs'], 'epoch')}" if "epochs" in detail else "",
        "reason": detail.get("reason", "no reason is known"),
        "directory": detail.get("directory", "a bundle"),
        "runs": "run" if are_several else "runs",
    }
    return WORDS.get(event.kind, event.kind).format_map(words).rstrip()
