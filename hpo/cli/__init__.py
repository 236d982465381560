"""The command line `hpo`: one thin handler per command, results on stdout, messages on stderr.

A handler imports its dependencies when it runs, so that `hpo --help` is instant.
"""

import logging
import sys
import traceback

import click

from hpo.cli import data, machine, replay, results, server, status, studies, training
from hpo.cli.command import ExampleGroup
from hpo.cli.output import message
from hpo.errors import HpoError
from hpo.run.logs import log_to_stderr


@click.group(
    cls=ExampleGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    example="hpo run studies/quickstart.toml\nhpo status quickstart\nhpo export quickstart --format json",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error, and the debug log.")
@click.version_option(package_name="hpo", prog_name="hpo")
def cli(verbose: bool) -> None:
    """Hyperparameter optimization: from a study file to a trained model.

    Studies live in Postgres: HPO_STORAGE_URL, or an embedded server under HPO_HOME.
    """
    log_to_stderr(logging.DEBUG if verbose else logging.INFO)


for command in (
    training.run,
    training.workers,
    training.worker,
    results.promote,
    results.export,
    results.predict,
    status.status,
    status.dashboard,
    machine.doctor,
    machine.models,
    machine.tune,
    replay.replay,
    machine.completion,
    studies.study,
    data.data,
    server.server,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line. Errors become lines on stderr and an exit code here and nowhere else."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        message("stopped")
        sys.exit(130)
    except HpoError as error:
        if _verbose():
            traceback.print_exc()
        for line in str(error).splitlines():
            message(f"hpo: {line}")
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _verbose() -> bool:
    return bool({"-v", "--verbose"} & set(sys.argv[1:2]))
