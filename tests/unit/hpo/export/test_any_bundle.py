"""One function opens bundles of both kinds."""

import subprocess
import sys
from pathlib import Path

import pytest

import hpo
from hpo.errors import InputError, NotFoundError
from hpo.export.any_bundle import load_bundle
from hpo.export.bundle import Bundle
from hpo.export.function_bundle import FunctionBundle


def test_missing_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere: no such folder"):
        load_bundle(tmp_path / "nowhere")


def test_folder_of_neither_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"metrics\.json: no such file; a bundle has metrics\.json, model\.json"
    ):
        load_bundle(str(tmp_path))


def test_package_exports_bundles_without_importing_torch() -> None:
    assert (hpo.load_bundle, hpo.Bundle, hpo.FunctionBundle) == (load_bundle, Bundle, FunctionBundle)
    with pytest.raises(AttributeError, match="load_bundel"):
        _ = hpo.load_bundel  # type: ignore[attr-defined]
    code = "import sys, hpo; hpo.load_bundle; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
