"""The end of `hpo study delete`: what is left of a study, and what could not be deleted."""

import click

from hpo.artifacts.registry import open_artifacts
from hpo.cli.output import message
from hpo.errors import HpoError
from hpo.settings import Settings
from hpo.store.connection import Storage
from hpo.study import remains
from hpo.study.stored import remove_files
from hpo.values.wording import counted


def delete_remains(settings: Settings, storage: Storage, name: str, error: HpoError, yes: bool) -> None:
    """Delete what is left of a study that cannot be loaded, for the reason `error`.

    Asks the user unless `yes`. Raises `error` if nothing is left.
    """
    with storage.transaction() as connection:
        if remains.find(connection, name) is None:
            raise error
    message(str(error))
    if not yes:
        click.confirm(f"Delete all that is left of study {name}?", abort=True, err=True)
    folders = remains.remove(storage, name).artifacts
    stores = (open_artifacts(settings, folder) for folder in folders)
    report_deletion(name, [line for store in stores for line in remove_files(store)])


def report_deletion(name: str, staying: list[str]) -> None:
    """Say that a study is deleted. `staying` has a line for each file that could not be deleted."""
    message(f"study {name} deleted")
    if staying:
        message(f"{counted(len(staying), 'file')} could not be deleted; the first: {staying[0]}")
