"""The probe of HPO_ARTIFACTS."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpo.artifacts.registry import probe_artifacts
from hpo.errors import InputError
from hpo.settings import Settings


def test_probe_leaves_nothing_in_a_folder_that_can_be_written(tmp_path: Path) -> None:
    probe_artifacts(Settings(artifacts=str(tmp_path / "a" / "b")))
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("below", ["", "sub", "sub/folder"])
def test_place_under_a_file_is_refused_in_one_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file" / below)
    with pytest.raises(
        InputError, match=rf"^HPO_ARTIFACTS = '{re.escape(place.rstrip('/'))}': cannot be written: "
    ) as caught:
        probe_artifacts(Settings(artifacts=place))
    assert "\n" not in str(caught.value)


def test_default_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "artifacts").touch()
    with pytest.raises(InputError, match=r"artifacts' \(the default, since it is unset\): cannot be written"):
        probe_artifacts(Settings(home=tmp_path))


def test_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(InputError, match=r"^HPO_ARTIFACTS = 's3://x': must be a folder"):
        probe_artifacts(Settings(artifacts="s3://x"))
