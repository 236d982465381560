import pytest
from support.artifacts import MemoryStore

from hpo.worker.context import WorkerSettings


@pytest.mark.parametrize(("device", "fills"), [("cpu", False), ("cpu:0", False), ("cuda:0", True)])
def test_only_accelerators_keep_packs_full_by_default(device: str, fills: bool) -> None:
    assert WorkerSettings("w", device, MemoryStore()).fills_packs == fills


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("fills", [False, True])
def test_fills_overrides_the_default_of_the_device(device: str, fills: bool) -> None:
    assert WorkerSettings("w", device, MemoryStore(), fills=fills).fills_packs == fills
