"""The status of a study as a line of JSON for each read."""

from hpo.cli.output import result, to_json
from hpo.run.displays import Display
from hpo.study.live import LiveStatus


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
