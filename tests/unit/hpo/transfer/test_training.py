import numpy as np
import pytest
import torch
from support.bundles import random_bundle

from hpo.data.dataset import Labelled
from hpo.errors import HpoError
from hpo.export.model_spec import ModelSpec
from hpo.transfer.network import TransferNetwork
from hpo.transfer.recipe import Layers, TransferRecipe
from hpo.transfer.training import TransferImages, train
from hpo.values.epoch import VALIDATION_LOSS

SPEC = ModelSpec("lenet", tuple("0123456789AB"), 1, (28, 28), (0.17,), (0.33,))


def images(count: int = 60) -> TransferImages:
    """Return images of three classes that differ in brightness."""
    labels = np.arange(count, dtype=np.int64) % 3
    noise = np.random.default_rng(0).integers(40, size=(count, 28, 28))
    return TransferImages.of(Labelled((noise + 100 * labels[:, None, None]).astype(np.uint8), labels), 0)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TransferNetwork:
    bundle = random_bundle(tmp_path_factory.mktemp("source") / "bundle", SPEC)
    return TransferNetwork.of(bundle, ("dark", "grey", "bright"))


def test_held_out_images_are_not_trained_on() -> None:
    parts = images()
    assert sorted([*parts.rows, *parts.held_out]) == list(range(60))
    assert np.bincount(parts.labelled.labels[parts.held_out]).tolist() == [2, 2, 2]


def test_last_layer_alone_is_trained_on_frozen_features(network: TransferNetwork) -> None:
    trained = train(network, images(), TransferRecipe(epochs=3, batch_size=8), None, "cpu")
    assert trained.weights.keys() == network.build().state_dict().keys()
    assert all(torch.equal(trained.weights[name], tensor) for name, tensor in network.kept.items())
    losses = [result.metrics[VALIDATION_LOSS] for result in trained.epochs]
    assert trained.kept.metrics[VALIDATION_LOSS] == min(losses)
    assert len(trained.epochs) == 3


def test_all_layers_are_trained_from_the_weights_of_the_bundle(network: TransferNetwork) -> None:
    recipe = TransferRecipe("all", epochs=1, lr=1e-6, batch_size=8)
    trained = train(network, images(), recipe, None, "cpu")
    weight = "features.0.weight"
    assert not torch.equal(trained.weights[weight], network.kept[weight])
    torch.testing.assert_close(trained.weights[weight], network.kept[weight], atol=1e-3, rtol=0)
    assert not torch.equal(
        trained.weights["classifier.2.running_mean"], network.kept["classifier.2.running_mean"]
    )


@pytest.mark.parametrize("layers", ["last", "all"])
def test_a_seed_gives_the_same_weights(network: TransferNetwork, layers: Layers) -> None:
    first, second, other = (
        train(network, images(), TransferRecipe(layers, 1, None, 8, seed), None, "cpu").weights
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not torch.equal(first["classifier.8.weight"], other["classifier.8.weight"])


def test_dropout_rate_of_the_source_applies_to_all_layers_only(network: TransferNetwork) -> None:
    recipes = TransferRecipe(epochs=1), TransferRecipe("all", epochs=1)
    frozen, whole = (train(network, images(), recipe, 0.2, "cpu").params for recipe in recipes)
    assert "dropout" not in frozen
    assert whole["dropout"] == 0.2


def test_diverged_training_is_reported_with_a_way_out(network: TransferNetwork) -> None:
    with pytest.raises(HpoError, match=r"not finite in epoch 1: choose a learning rate below 1e\+30"):
        train(network, images(), TransferRecipe("all", lr=1e30), None, "cpu")
