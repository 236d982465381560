import string

import numpy as np
import pytest
from torchvision.datasets import EMNIST

from hpo.data.mnist import BY_CLASS
from hpo.export.analysis.folding import Folding, folding_of


def test_by_merge_has_the_classes_of_torchvision() -> None:
    folding = folding_of(BY_CLASS)
    assert folding is not None
    assert sorted(folding.names) == sorted(set(BY_CLASS) - EMNIST._merged_classes)
    folded = {name: folding.names[target] for name, target in zip(BY_CLASS, folding.targets, strict=True)}
    assert {name for name in folded if folded[name] != name} == EMNIST._merged_classes
    assert all(folded[name] == name.upper() for name in EMNIST._merged_classes)


@pytest.mark.parametrize("classes", [string.digits, BY_CLASS[:-1], BY_CLASS[:-1] + "ä"])
def test_other_classes_are_not_folded(classes: str) -> None:
    assert folding_of(classes) is None


def test_any_map_of_names_folds() -> None:
    folding = Folding.by_name("pets", ("cat", "rose", "dog"), {"cat": "animal", "dog": "animal"})
    assert (folding.names, folding.targets) == (("animal", "rose"), (0, 1, 0))
    assert folding.of(np.array([2, 1, 0])).tolist() == [0, 1, 0]
    probabilities = np.array([[0.3, 0.4, 0.3], [0.1, 0.8, 0.1]], dtype=np.float32)
    assert folding.most_probable(probabilities).tolist() == [0, 1]
