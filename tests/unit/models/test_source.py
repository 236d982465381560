import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

from hpo import models
from hpo.models import ModelError

NETWORK = "from torch import nn\nclass Net(nn.Module): pass\n"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions may have one size and one second


def code_hash(name: str, files: Mapping[str, str] | None = None, *functions: str) -> str | None:
    """Write the files, by their paths, and return the hash of the code of a network and of functions."""
    for path, text in (files or {}).items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    known = set(sys.modules)
    try:
        return models.code_hash(name, *functions)
    finally:
        for module in set(sys.modules) - known:
            del sys.modules[module]


def test_network_of_hpo_has_no_hash() -> None:
    assert [models.code_hash(name) for name in models.names()] == [None] * len(models.names())


def test_hash_covers_the_modules_file_but_no_other_file() -> None:
    old = code_hash("nets:Net", {"nets.py": NETWORK, "other.py": "x = 1"})
    assert old == code_hash("nets:Net", {"other.py": "x = 2"})
    assert old != code_hash("nets:Net", {"nets.py": NETWORK + "# changed\n"})


def test_hash_does_not_depend_on_line_ends_and_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = code_hash("nets:Net", {"nets.py": NETWORK})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path("nets.py").write_bytes(NETWORK.replace("\n", "\r\n").encode())
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    assert code_hash("nets:Net") == old


@pytest.mark.parametrize(
    "imported",
    [
        "import own_blocks",
        "from own_blocks import x",
        "from own_blocks import x as y",
        "from own_parts import blocks",
        "from own_parts.blocks import x",
        "import own_parts.blocks",
        "import own_parts",
        "def later():\n    import own_blocks",
        "import own_between",
    ],
)
def test_imported_modules_are_part_of_the_hash(imported: str) -> None:
    files = {
        "own_between.py": "import own_blocks",
        "own_blocks.py": "x = 1",
        "own_parts/__init__.py": "import own_parts.blocks",
        "own_parts/blocks.py": "x = 1",
    }
    old = code_hash("nets:Net", {"nets.py": f"{imported}\n{NETWORK}", **files})
    assert old == code_hash("nets:Net", {"own_unrelated.py": "x = 1"})
    assert old != code_hash("nets:Net", {"own_blocks.py": "x = 2", "own_parts/blocks.py": "x = 2"})


@pytest.mark.parametrize(
    "imported",
    [
        "from . import blocks",
        "from .blocks import x",
        "from .inner.deep import x",
        "from own_pack.blocks import x",
    ],
)
def test_relative_imports_are_followed(imported: str) -> None:
    files = {
        "own_pack/__init__.py": "",
        "own_pack/blocks.py": "x = 1",
        "own_pack/inner/__init__.py": "",
        "own_pack/inner/deep.py": "from ..blocks import x",
    }
    old = code_hash("own_pack.nets:Net", {"own_pack/nets.py": f"{imported}\n{NETWORK}", **files})
    assert old != code_hash("own_pack.nets:Net", {"own_pack/blocks.py": "x = 2"})
    changed = code_hash("own_pack.nets:Net")
    # The package's own file runs before the module.
    assert changed != code_hash("own_pack.nets:Net", {"own_pack/__init__.py": "x = 1"})


def test_circular_imports_end() -> None:
    files = {"nets.py": f"import own_blocks\n{NETWORK}", "own_blocks.py": "import nets"}
    assert code_hash("nets:Net", files) is not None


def test_module_that_nothing_imports_may_have_any_syntax() -> None:
    text = f"try:\n    import own_old\nexcept SyntaxError: pass\n{NETWORK}"
    assert code_hash("nets:Net", {"nets.py": text, "own_old.py": "print 1"}) is not None


def test_of_installed_packages_only_the_networks_own_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    text = f"import own_blocks\nfrom own_pack import x\n{NETWORK}"
    files = {"own_pack/nets.py": text, "own_pack/__init__.py": "x = 1", "own_blocks.py": ""}
    old = code_hash("own_pack.nets:Net", files)
    assert old == code_hash("own_pack.nets:Net", {"own_blocks.py": "x = 1"})
    assert old != code_hash("own_pack.nets:Net", {"own_pack/__init__.py": "x = 2"})


def test_hpo_beside_the_network_is_no_part_of_it() -> None:
    old = code_hash("nets:Net", {"nets.py": f"from hpo.models import init\n{NETWORK}"})
    assert old == code_hash("nets:Net", {"hpo/models/init.py": "x = 1", "hpo/__init__.py": ""})


def test_network_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(ModelError, match="absent:Net: No module named 'absent'"):
        code_hash("absent:Net")


def test_hash_covers_own_loss_and_metrics() -> None:
    files = {"nets.py": NETWORK, "losses.py": "def huber(): pass\n", "metrics.py": "def worst(): pass\n"}
    alone = code_hash("nets:Net", files)
    functions = "losses:huber", "metrics:worst"
    hashes = [
        alone,
        code_hash("nets:Net", None, "losses:huber"),
        code_hash("nets:Net", None, *functions),
        code_hash("lenet", None, *functions),
        code_hash("nets:Net", {"metrics.py": "def worst(): return 1\n"}, *functions),
    ]
    assert None not in hashes
    assert len(set(hashes)) == len(hashes)
    assert code_hash("nets:Net") == alone


def test_missing_own_loss_is_refused() -> None:
    with pytest.raises(ModelError, match="nets:huber: nets has no huber"):
        code_hash("nets:Net", {"nets.py": NETWORK}, "nets:huber")
