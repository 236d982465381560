"""What the shapes of the data decide of a network."""

import pytest

from hpo.values.data_shape import DataShape


@pytest.mark.parametrize(
    ("shape", "keywords"),
    [
        (DataShape((1, 28, 28), 10), {"classes": 10, "in_channels": 1}),
        (DataShape((3, 8, 8), None), {"outputs": 1, "in_channels": 3}),
        (DataShape((30,), 2), {"classes": 2, "in_features": 30}),
        (DataShape((30,), None, (3,)), {"outputs": 3, "in_features": 30}),
        (DataShape((4, 128), 5), {"classes": 5, "in_channels": 4}),
    ],
)
def test_data_decide_two_keywords_of_a_network(shape: DataShape, keywords: dict[str, int]) -> None:
    assert shape.keywords == keywords
