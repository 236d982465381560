"""The rules that hold for every artifact store."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.artifacts import MemoryStore

from hpo.artifacts.base import ArtifactStore, check_name
from hpo.artifacts.folder import FolderStore
from hpo.errors import ArtifactNameError, AwayError

STORES: dict[str, Callable[[Path], ArtifactStore]] = {
    "folder": lambda folder: FolderStore(folder / "study"),
    "memory": lambda _folder: MemoryStore(),
}

BAD_NAMES = (
    *(
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        "./a",
        "../a",
        "a/../b",
        "a/..",
        "checkpoints/../../a",
    ),
    *("a b", "a\nb", "a\n", "a\0b", "a\\b", "~/a", "$HOME", "a*", "C:a", "\u00e4"),
)


@pytest.fixture(params=STORES.values(), ids=list(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    opened: ArtifactStore = request.param(tmp_path)
    return opened


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "...", "..a", "a..", ".a.b", "checkpoints/a", "a/.b/c"])
def test_name_of_allowed_parts_is_accepted(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", BAD_NAMES)
def test_name_that_could_leave_the_store_is_refused(name: str) -> None:
    with pytest.raises(ArtifactNameError) as caught:
        check_name(name)
    assert str(caught.value).startswith(f"artifact name {name!r}: must be ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_operation_takes_such_a_name(store: ArtifactStore, tmp_path: Path, name: str) -> None:
    operations: list[Callable[[], object]] = [
        lambda: store.put(name, b"x"),
        lambda: store.get(name),
        lambda: store.delete(name),
    ]
    for operation in operations:
        with pytest.raises(ArtifactNameError):
            operation()
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("prefix", ["..", "../", "/", "a/../", "a b"])
def test_prefix_that_leaves_the_store_is_refused(store: ArtifactStore, prefix: str) -> None:
    with pytest.raises(ArtifactNameError):
        store.list(prefix)


def test_file_comes_back_as_written(store: ArtifactStore) -> None:
    store.put("checkpoints/a", b"\x00\xff\n")
    assert store.get("checkpoints/a") == b"\x00\xff\n"
    store.put("checkpoints/a", b"")
    assert store.get("checkpoints/a") == b""


def test_list_returns_the_sorted_names_with_a_prefix(store: ArtifactStore) -> None:
    names = [".a.bin.half", "a.bin", "b.txt", "sub/.c.bin.half", "sub/c-1.bin", "sub/c-12.bin"]
    for name in reversed(names):
        store.put(name, b"x")
    assert store.list() == names
    assert store.list("a") == ["a.bin"]
    assert store.list("sub/") == names[3:]
    assert store.list("sub/c-1") == names[4:]
    assert store.list("sub/c-1.bin") == ["sub/c-1.bin"]
    assert store.list("none/") == []


def test_new_store_is_empty(store: ArtifactStore) -> None:
    assert store.list() == []


def test_missing_file_is_away(store: ArtifactStore) -> None:
    store.put("a", b"x")
    with pytest.raises(AwayError, match=r"b: No such file|b: no such file"):
        store.get("b")


def test_deleted_file_is_gone_and_may_be_deleted_again(store: ArtifactStore) -> None:
    store.put("sub/a", b"x")
    store.put("sub/b", b"x")
    store.delete("sub/a")
    assert store.list() == ["sub/b"]
    store.delete("sub/a")
    store.delete("never/there")
