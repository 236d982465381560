"""The status of a study as text, and as a line of JSON for each read of it."""

from hpo.cli.layout import Screen
from hpo.cli.output import result, to_json
from hpo.cli.tables import status_table
from hpo.run.displays import Display
from hpo.run.screen import left_text, stage_text
from hpo.study.live import LiveStatus


def status_text(live: LiveStatus) -> str:
    """Return the figures of a study, how much of its budget is used, and the time left."""
    status, screen = live.status, Screen.of_stdout()
    lines = [f"Search: {stage_text(status.search, live.search, 'trial')}"]
    if status.full.present:
        lines.append(f"Full training: {stage_text(status.full, live.full, 'training')}")
    lines.append(f"Time left: {left_text(live)}")
    return "\n".join([status_table(status), *map(screen.wrap, lines)])


class JsonLines(Display):
    """A line of JSON on stdout for each read of the status."""

    def start(self) -> None:
        """Do nothing: the first status is the first line."""

    def show(self, live: LiveStatus) -> None:
        """Print the figures."""
        result(to_json(live.to_json()))

    def write(self, line: str) -> None:
        """Leave the line out: the output is for a program."""

    def stop(self) -> None:
        """Do nothing: the last line stays."""
