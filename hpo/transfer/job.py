"""One transfer: the images, the training, the test, and the new bundle."""

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpo import models
from hpo.data.dataset import DataInputError, Dataset
from hpo.export.bundle import Bundle, BundleContents, open_bundle, write_bundle
from hpo.export.bundle_folder import WEIGHTS
from hpo.export.fit import fit_dataset
from hpo.export.metrics import AnyMetrics
from hpo.export.provenance import versions
from hpo.export.scoring import HeldOutPart
from hpo.training.columns import DROPOUT
from hpo.training.criteria import criterion_of
from hpo.training.workload import usable_device
from hpo.transfer.network import TransferNetwork
from hpo.transfer.recipe import TransferRecipe
from hpo.transfer.training import Trained, TransferImages, train
from hpo.values.epoch import are_finite
from hpo.values.parameters import is_model_parameter
from hpo.values.wording import counted

log = logging.getLogger("hpo.transfer")

PACKAGES = ("hpo", "torch", "torchvision", "numpy", "scikit-learn")


@dataclass(frozen=True)
class TransferJob:
    """The transfer of `source` to the `classes` of a data set, with its arguments checked."""

    source: Bundle
    dataset: Dataset
    classes: tuple[str, ...]
    recipe: TransferRecipe
    device: str

    def run(self, directory: Path) -> Bundle:
        """Train, test once, and write the bundle. Raises `HpoError` as `transfer_bundle` does."""
        images, network = self._images, self._network
        log.info(
            "transfer of %s to %s: %s for training, %d for validation; new: %s; trained: %s",
            self.source.spec.name,
            self.dataset.name,
            counted(len(images.rows), "image"),
            len(images.held_out),
            ", ".join(network.new_layers),
            "the new layers" if self.recipe.layers == "last" else "all layers",
        )
        trained = train(network, images, self.recipe, self._dropout, self.device)
        keywords = {name: value for name, value in self.source.params.items() if is_model_parameter(name)}
        contents = BundleContents(
            network.spec,
            trained.weights,
            {**trained.params, **keywords},
            self._test(trained),
            self._provenance(trained),
        )
        write_bundle(directory, contents)
        return open_bundle(directory)

    @cached_property
    def _fitted(self) -> Dataset:
        return fit_dataset(self.dataset, self.source.spec)

    @cached_property
    def _images(self) -> TransferImages:
        labelled = self._fitted.load_train()
        if len(np.unique(labelled.labels)) == 1:
            raise DataInputError(f"{self.dataset.name}: all training {labelled.noun}s are of one class")
        return TransferImages.of(labelled, self.recipe.seed)

    @cached_property
    def _network(self) -> TransferNetwork:
        return TransferNetwork.of(self.source, self.classes)

    @property
    def _dropout(self) -> float | None:
        """The rate of all dropout layers with which the source was trained, None for those of the network."""
        rate = self.source.params.get(DROPOUT)
        return float(rate) if isinstance(rate, int | float) else None

    def _test(self, trained: Trained) -> AnyMetrics:
        spec, network = self._network.spec, self._network.build()
        network.load_state_dict(trained.weights)
        criterion = criterion_of(spec.shape, None, {})
        # On the CPU, as an opened bundle is.
        return HeldOutPart(self._fitted).score(network, spec.normalization, "cpu", criterion).metrics

    def _provenance(self, trained: Trained) -> dict[str, Any]:
        """Return the origin of the model: the source, the data, and the training."""
        source, recipe, facts, kept = self.source, self.recipe, self.dataset.facts, trained.kept
        validation = {name: value for name, value in kept.metrics.items() if name.startswith("validation_")}
        assert are_finite(validation)
        weights = (source.directory / WEIGHTS).read_bytes()
        return {
            "transfer": {
                "layers": recipe.layers,
                "new_layers": self._network.new_layers,
                "validation_images": len(self._images.held_out),
            },
            "source": {
                "bundle": str(source.directory),
                "weights_sha256": hashlib.sha256(weights).hexdigest(),
                "classes": len(source.classes),
                "provenance": source.provenance,
            },
            "seed": recipe.seed,
            "epochs": len(trained.epochs),
            "kept_epoch": kept.epoch,
            "device": self.device,
            **validation,
            "data": self.dataset.name,
            "data_sha256": None if facts is None else facts.hashes.train,
            "network_sha256": models.code_hash(self._network.spec.name),
            "versions": versions(PACKAGES),
        }


def device_of(name: str | None) -> str:
    """Return a device that torch can compute on: by default the first GPU, or the CPU without a GPU.

    Raises `InputError` for a device that cannot be used.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    return usable_device(name)
