"""The command line `hpo`: one thin handler per command, results on stdout, messages on stderr.

A handler imports its dependencies when it runs, so that `hpo --help` is instant.
"""

import errno
import logging
import sys
import traceback

import click

from hpo.cli import (
    data,
    evaluate,
    machine,
    plan,
    replay,
    report,
    results,
    server,
    status,
    studies,
    training,
    transfer,
)
from hpo.cli.command import ExampleGroup
from hpo.cli.output import discard_output, message, prepare_streams
from hpo.errors import HpoError
from hpo.run.logs import log_to_stderr

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a file or a disk that takes no more."""


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
    plan.plan,
    training.run,
    training.workers,
    training.worker,
    results.promote,
    results.export,
    results.predict,
    evaluate.evaluate,
    transfer.transfer,
    status.status,
    report.report,
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
    prepare_streams()
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
    except OSError as error:
        reason = _system_error(error)
        if reason is None:
            raise
        if _verbose():
            traceback.print_exc()
        message(f"hpo: {reason}")
        discard_output()
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _verbose() -> bool:
    return bool({"-v", "--verbose"} & set(sys.argv[1:2]))


def _system_error(error: OSError) -> str | None:
    """Return what a user can do about an error of the operating system, None if it is an error of hpo."""
    if isinstance(error, FileNotFoundError) and error.filename is None:  # of os.getcwd
        return "the working directory has been deleted; change to another folder"
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in FULL:
        return f"cannot write: {error.strerror}"
    return None
