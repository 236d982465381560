from pathlib import Path

import pytest
from support.artifacts import MemoryStore, folder_of

from hpo.artifacts import registry
from hpo.artifacts.base import ArtifactStore
from hpo.artifacts.registry import open_artifacts
from hpo.errors import ArtifactNameError, InputError
from hpo.settings import Settings


def test_artifacts_of_a_study_are_a_folder_of_its_own(tmp_path: Path) -> None:
    store = open_artifacts(Settings(artifacts=str(tmp_path / "shared")), "lenet-1a2b")
    assert folder_of(store) == tmp_path / "shared" / "lenet-1a2b"
    assert list(tmp_path.iterdir()) == []


def test_unknown_kind_of_url_is_refused_with_one_line() -> None:
    with pytest.raises(InputError, match=r"^HPO_ARTIFACTS = 's3://bucket': must be a folder$"):
        open_artifacts(Settings(artifacts="s3://bucket"), "lenet-1a2b")


def test_name_from_the_database_cannot_leave_the_location(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNameError, match=r"lenet-/\.\./\.\./x"):
        open_artifacts(Settings(artifacts=str(tmp_path)), "lenet-/../../x")


def test_scheme_chooses_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []

    def open_memory(location: str, study: str) -> ArtifactStore:
        calls.append((location, study))
        return MemoryStore()

    monkeypatch.setattr(registry, "open_memory", open_memory, raising=False)
    monkeypatch.setattr(registry, "STORES", {**registry.STORES, "memory": f"{registry.__name__}:open_memory"})
    assert isinstance(open_artifacts(Settings(artifacts="memory://a/b"), "lenet-1"), MemoryStore)
    assert calls == [("memory://a/b", "lenet-1")]
    with pytest.raises(InputError, match=r"must be a folder or memory://\.\.\.$"):
        open_artifacts(Settings(artifacts="s3://bucket"), "lenet-1")
