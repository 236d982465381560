import pytest

from hpo.values.resources import parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8 GB", 8 * 10**9),
        ("512MiB", 512 * 2**20),
        (" 1.5 gib ", 3 * 2**29),
        ("100 b", 100),
        ("0 GB", None),
        ("8", None),
        ("GB", None),
        ("-1 GB", None),
        ("8 Gb/s", None),
        ("1e3 MB", None),
        (f"1{400 * '0'} GB", None),
    ],
)
def test_memory_is_an_amount_with_a_unit(text: str, size: int | None) -> None:
    assert parse_memory(text) == size
