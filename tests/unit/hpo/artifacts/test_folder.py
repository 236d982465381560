"""The durable writes of a folder, and its empty subfolders."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from hpo.artifacts import folder as module
from hpo.artifacts.folder import FolderStore
from hpo.errors import AwayError


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "study")


def files(store: FolderStore) -> list[str]:
    """Return the names of all files, in subfolders too."""
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def test_other_users_may_read_a_file(store: FolderStore) -> None:
    store.put("a", b"x")
    assert stat.S_IMODE((store.root / "a").stat().st_mode) == 0o644


def test_list_leaves_out_files_with_other_names(store: FolderStore) -> None:
    store.put("a", b"x")
    (store.root / "a note.txt").touch()
    (store.root / "link").symlink_to("nowhere")
    assert store.list() == ["a", "link"]


def test_list_leaves_out_folders_of_other_users(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("a", ".bundle-x/new/b", "checkpoints/c"):
        store.put(name, b"x")
    scan = os.scandir

    def refuse_one(path: str) -> object:
        if Path(path).name == ".bundle-x":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse_one)
    assert store.list() == ["a", "checkpoints/c"]
    with pytest.raises(AwayError, match="Permission denied"):
        FolderStore(store.root / ".bundle-x").list()


# Folders


def test_last_file_takes_its_folders_along(store: FolderStore, tmp_path: Path) -> None:
    store.put("checkpoints/a", b"x")
    store.put("checkpoints/b", b"x")
    store.put("c", b"x")
    store.delete("checkpoints/a")
    assert (store.root / "checkpoints").is_dir()
    store.delete("checkpoints/b")
    assert [path.name for path in store.root.iterdir()] == ["c"]
    store.delete("c")
    assert list(tmp_path.iterdir()) == []


def test_file_is_written_though_another_process_deletes_its_empty_folder(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder, deleted = module._make_folder, 0

    def make_and_lose(folder: Path) -> None:
        nonlocal deleted
        make_folder(folder)
        if folder.name == "checkpoints" and deleted < 2:
            deleted += 1
            folder.rmdir()

    monkeypatch.setattr(module, "_make_folder", make_and_lose)
    store.put("checkpoints/a", b"x")
    assert deleted == 2
    assert store.get("checkpoints/a") == b"x"


def test_writers_and_deleters_share_a_folder(store: FolderStore) -> None:
    """Each thread empties the folder again and again, while the other writes into it."""
    failures: list[Exception] = []

    def work(name: str) -> None:
        try:
            for _ in range(100):
                store.put(f"checkpoints/{name}", b"x")
                store.delete(f"checkpoints/{name}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert store.list() == []


def test_new_folders_are_durable(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(module, "_sync_folder", synced.append)
    store.put("checkpoints/a", b"x")
    assert synced == [store.root.parent, store.root, store.root / "checkpoints"]
    synced.clear()
    store.put("checkpoints/b", b"x")
    assert synced == [store.root / "checkpoints"]


# Failures


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_leaves_no_file(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    (store.root / "checkpoints").mkdir(parents=True)

    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[step], fail)
    for name in ("a", "checkpoints/a"):
        with pytest.raises(AwayError if isinstance(error, OSError) else KeyboardInterrupt):
            store.put(name, b"x")
    assert files(store) == []


def test_failed_write_leaves_the_former_file(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", b"former")

    def fail(_number: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(AwayError, match=r"study/a: Input/output error$"):
        store.put("a", b"new")
    assert files(store) == ["a"]
    assert store.get("a") == b"former"


def test_file_gets_its_name_after_its_content_is_durable(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.root.mkdir()
    fsync, seen = os.fsync, list[list[str]]()

    def look(number: int) -> None:
        seen.append(files(store))
        fsync(number)

    monkeypatch.setattr(os, "fsync", look)
    store.put("a", b"x")
    of_file, of_folder = seen
    assert of_folder == ["a"]
    assert of_file != ["a"]


def test_every_operation_raises_where_a_file_stands_in_the_place_of_the_folder(store: FolderStore) -> None:
    store.root.write_text("not a folder")
    for operation in (
        lambda: store.put("a", b"x"),
        lambda: store.get("a"),
        lambda: store.list(),
        lambda: store.delete("a"),
    ):
        with pytest.raises(AwayError, match=r"/study(/a)?: "):
            operation()
