"""The end of `hpo study delete`: what is left of a study, and what could not be deleted."""

import sys

import click

from hpo.artifacts.registry import open_artifacts
from hpo.cli.output import message
from hpo.errors import HpoError, InputError
from hpo.run.worker_log import remove_logs
from hpo.settings import Settings
from hpo.store.connection import Storage
from hpo.study import remains
from hpo.study.stored import remove_files
from hpo.values.wording import counted


def confirm_deletion(question: str, name: str) -> None:
    """Ask the user; end the command unless the answer is yes. Raises `InputError` if nobody answers."""
    try:
        is_sure = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        message("")
        advice = f"to delete without a question: hpo study delete {name} --yes"
        raise InputError(f"standard input has no answer; {advice}") from None
    if not is_sure:
        raise click.Abort


def delete_remains(settings: Settings, storage: Storage, name: str, error: HpoError, yes: bool) -> None:
    """Delete what is left of a study that cannot be loaded, for the reason `error`.

    Asks the user unless `yes`. Raises `error` if nothing is left.
    """
    with storage.transaction() as connection:
        if remains.find(connection, name) is None:
            raise error
    message(str(error))
    if not yes:
        confirm_deletion(f"Delete all that is left of study {name}?", name)
    folders = remains.remove(storage, name).artifacts
    remove_logs(settings.logs_path, folders)
    stores = (open_artifacts(settings, folder) for folder in folders)
    report_deletion(name, [line for store in stores for line in remove_files(store)])


def report_deletion(name: str, staying: list[str]) -> None:
    """Say that a study is deleted. `staying` has a line for each file that could not be deleted."""
    message(f"study {name} deleted")
    if staying:
        message(f"{counted(len(staying), 'file')} could not be deleted; the first: {staying[0]}")
