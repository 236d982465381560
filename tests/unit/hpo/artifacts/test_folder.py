import os
import stat
from pathlib import Path

import pytest

from hpo.artifacts.folder import ArtifactFolder


@pytest.fixture
def folder(tmp_path: Path) -> ArtifactFolder:
    return ArtifactFolder(tmp_path / "study")


def files(folder: ArtifactFolder) -> list[str]:
    """Return the names of all files, in subfolders too."""
    paths = folder.root.rglob("*")
    return sorted(str(path.relative_to(folder.root)) for path in paths if path.is_file())


def test_file_comes_back_as_written(folder: ArtifactFolder) -> None:
    folder.put("checkpoints/a", b"\x00\xff\n")
    assert folder.get("checkpoints/a") == b"\x00\xff\n"
    folder.put("checkpoints/a", b"")
    assert folder.get("checkpoints/a") == b""


def test_other_users_may_read_a_file(folder: ArtifactFolder) -> None:
    folder.put("a", b"x")
    assert stat.S_IMODE(folder.path("a").stat().st_mode) == 0o644


def test_list_matches_names_and_keeps_subfolders_apart(folder: ArtifactFolder) -> None:
    for name in ("a.bin", "b.txt", ".a.bin.half", "sub/c.bin", "sub/.c.bin.half"):
        folder.put(name, b"x")
    assert folder.list("*.bin") == ["a.bin"]
    assert folder.list(".a*") == [".a.bin.half"]
    assert sorted(folder.list("sub/*")) == ["sub/.c.bin.half", "sub/c.bin"]
    assert folder.list("none/*") == []


def test_renamed_and_deleted_files_lose_their_name(folder: ArtifactFolder) -> None:
    folder.put("sub/a", b"x")
    folder.rename("sub/a", "sub/b")
    assert files(folder) == ["sub/b"]
    with pytest.raises(OSError, match="not empty"):
        folder.delete_empty("sub")
    folder.delete("sub/b")
    folder.delete_empty("sub")
    assert list(folder.root.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        folder.delete("sub/b")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_leaves_no_file(
    folder: ArtifactFolder, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[step], fail)
    for name in ("a", "checkpoints/a"):
        with pytest.raises(type(error)):
            folder.put(name, b"x")
    assert files(folder) == []


def test_failed_write_leaves_the_former_file(folder: ArtifactFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put("a", b"former")

    def fail(_number: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        folder.put("a", b"new")
    assert files(folder) == ["a"]
    assert folder.get("a") == b"former"


def test_file_gets_its_name_after_its_content_is_durable(
    folder: ArtifactFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, seen = os.fsync, list[list[str]]()

    def look(number: int) -> None:
        seen.append(files(folder))
        fsync(number)

    monkeypatch.setattr(os, "fsync", look)
    folder.put("a", b"x")
    of_file, of_folder = seen
    assert of_folder == ["a"]
    assert of_file != ["a"]
