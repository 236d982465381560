"""The transfer of a bundle to the classes of another data set. This module imports torch only to train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hpo import data
from hpo.data.dataset import DataInputError
from hpo.errors import InputError
from hpo.export.any_bundle import load_bundle
from hpo.export.bundle_folder import check_folder
from hpo.export.function_bundle import FunctionBundle
from hpo.run.workload import mapped_dataset
from hpo.settings import Settings
from hpo.transfer.recipe import TransferRecipe

if TYPE_CHECKING:
    from hpo.export.bundle import Bundle


def transfer_bundle(
    bundle: Bundle | Path | str,
    dataset: str,
    directory: Path | str,
    recipe: TransferRecipe | None = None,
    device: str | None = None,
) -> Bundle:
    """Train the network of a bundle for the classes of a data set, and write a new bundle to `directory`.

    The last layer is new. A share of the training images decides which epoch is kept, and the test part is
    scored once, at the end. `dataset`: its name, or `package.module:function`. `recipe`: None for the last
    layer alone. `device`: a torch device, None for the first GPU, or the CPU without a GPU. Logs a line for
    each epoch. Raises `HpoError` with one line, and writes nothing, if bundle, data set, folder or device do
    not allow the transfer.
    """
    recipe, directory = recipe or TransferRecipe(), Path(directory)
    source = _source(bundle)
    data.check(dataset)
    check_folder(directory)
    if directory.resolve() == source.directory.resolve():
        raise InputError(f"{directory}: is the bundle to transfer from; choose another folder")
    opened = mapped_dataset(dataset, Settings.from_environment())
    if opened.classes is None:
        raise DataInputError(f"{dataset}: its targets are numbers; a transfer needs classes")
    from hpo.transfer.job import TransferJob, device_of

    return TransferJob(source, opened, opened.classes, recipe, device_of(device)).run(directory)


def _source(bundle: Bundle | Path | str) -> Bundle:
    opened = load_bundle(bundle) if isinstance(bundle, Path | str) else bundle
    if isinstance(opened, FunctionBundle):
        raise InputError(f"{opened.directory}: the bundle of a training function has no network to transfer")
    if not opened.classes:
        raise InputError(
            f"{opened.directory}: the model predicts numbers; a transfer needs a model of classes"
        )
    if opened.spec.members > 1:
        raise InputError(
            f"{opened.directory}: an ensemble has no single network to transfer; "
            "choose one of its trainings with `hpo export --trial`"
        )
    return opened
