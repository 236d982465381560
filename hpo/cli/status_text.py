"""The status of a study as text."""

from hpo.cli.layout import Screen
from hpo.cli.tables import status_table
from hpo.run.progress_words import left_text, stage_text
from hpo.study.live import LiveStatus


def status_text(live: LiveStatus) -> str:
    """Return the figures of a study, how much of its budget is used, and the time left."""
    status, screen = live.status, Screen.of_stdout()
    lines = [f"Search: {stage_text(status.search, live.search, 'trial')}"]
    if status.full.present:
        lines.append(f"Full training: {stage_text(status.full, live.full, 'training')}")
    lines.append(f"Time left: {left_text(live)}")
    return "\n".join([status_table(status), *map(screen.wrap, lines)])
