"""A study goes on only with the data and the network's code that it was created with."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL
from support.shell import SMALL_STUDY, Shell
from support.workloads import checked_workload

from hpo.errors import ConflictError
from hpo.run.workload import study_workload
from hpo.settings import Settings
from hpo.spec.identity import Identity
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_url
from hpo.study.create import create
from hpo.study.fork import fork
from hpo.study.stored import load

DATA = """
import numpy as np

def load():
    images = np.arange(200 * 4 * 4).reshape(200, 4, 4).astype(np.uint8) // SCALE
    labels = np.arange(200) % 2
    return images, labels, images[:20], labels[:20], ["even", "odd"]

SCALE = 1
"""

NETWORK = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, in_channels):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16 * in_channels, classes))

    def forward(self, images):
        return self.layers(images)
"""

OTHER_DATA = DATA.replace("SCALE = 1", "SCALE = 2")
OTHER_NETWORK = NETWORK + "# changed\n"

STUDY = SMALL_STUDY.replace('"lenet"', '"own_nets:Net"').replace('"digits"', '"own_data:load"')

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a call that writes the user's modules, which are imported anew: `own(data=..., network=...)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions have one size and maybe one time

    def forget() -> None:
        for module in ("own_data", "own_nets"):
            sys.modules.pop(module, None)

    def write(data: str = DATA, network: str = NETWORK) -> None:
        forget()
        (tmp_path / "own_data.py").write_text(data)
        (tmp_path / "own_nets.py").write_text(network)

    write()
    yield write
    forget()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def own_spec(spec: SpecOf) -> StudySpec:
    return spec(model={"name": "own_nets:Net"}, data={"name": "own_data:load", "mini": 0.5})


def identity(spec: StudySpec, settings: Settings) -> Identity:
    return checked_workload(spec, settings, "own.toml").identity


def forget_arrays(settings: Settings) -> None:
    """Turn this machine into one that has not seen the data."""
    shutil.rmtree(settings.arrays_path)


def test_study_keeps_the_identity_of_its_creation(
    own: Callable[..., None], storage: Storage, own_spec: StudySpec, settings: Settings
) -> None:
    present = identity(own_spec, settings)
    assert present.data is not None
    assert present.network is not None
    assert create(storage, own_spec, "own.toml", present).study.identity == present
    assert load(storage, "small").identity == present
    assert create(storage, own_spec, "own.toml", present).did == "unchanged"


@pytest.mark.parametrize(
    ("change", "message", "way_out"),
    [
        (
            {"data": OTHER_DATA},
            'data.name = "own_data:load": the hash of its training images or labels is [0-9a-f]{12}, in',
            "hpo study delete small",
        ),
        (
            {"network": OTHER_NETWORK},
            'model.name = "own_nets:Net": the hash of its code is [0-9a-f]{12}, in',
            "hpo study retry small",  # no trial has trained an epoch
        ),
    ],
    ids=["data", "network"],
)
def test_other_data_or_code_is_refused(
    own: Callable[..., None],
    storage: Storage,
    own_spec: StudySpec,
    settings: Settings,
    change: dict[str, str],
    message: str,
    way_out: str,
) -> None:
    study = create(storage, own_spec, "own.toml", identity(own_spec, settings)).study
    own(**change)
    with pytest.raises(ConflictError, match=f"^own.toml: {message}.* {way_out}$"):
        create(storage, own_spec, "own.toml", identity(own_spec, settings))
    forget_arrays(settings)
    with pytest.raises(ConflictError, match=f"^study 'small': {message}.*; restore the (code|data)$"):
        study_workload(study, settings)
    own()
    assert create(storage, own_spec, "own.toml", identity(own_spec, settings)).did == "unchanged"
    study_workload(study, settings)


def test_arrays_of_the_study_are_mapped_without_a_call(
    own: Callable[..., None], storage: Storage, own_spec: StudySpec, settings: Settings
) -> None:
    study = create(storage, own_spec, "own.toml", identity(own_spec, settings)).study
    own(data="raise RuntimeError")
    assert study_workload(study, settings).identity == study.identity


def test_study_without_hashes_goes_on_unchecked(
    own: Callable[..., None], storage: Storage, own_spec: StudySpec, settings: Settings
) -> None:
    study = create(storage, own_spec, "own.toml").study
    own(data=OTHER_DATA, network=OTHER_NETWORK)
    study_workload(study, settings)
    creation = create(storage, own_spec, "own.toml", identity(own_spec, settings))
    assert (creation.did, creation.study.identity) == ("unchanged", study.identity)


def test_fork_refuses_other_data_and_takes_other_code(
    own: Callable[..., None], storage: Storage, own_spec: StudySpec, settings: Settings
) -> None:
    old = create(storage, own_spec, "own.toml", identity(own_spec, settings)).study
    forked = own_spec.model_copy(update={"name": "forked"})
    own(data=OTHER_DATA)
    with pytest.raises(ConflictError, match=r"data\.name = .* in the stored study 'small' it is"):
        fork(storage, old, forked, "own.toml", identity(forked, settings))
    own(network=OTHER_NETWORK)
    present = identity(forked, settings)
    assert fork(storage, old, forked, "own.toml", present).creation.study.identity == present
    assert load(storage, "forked").identity == present


@pytest.fixture
def shell(tmp_path: Path, database: URL) -> Iterator[Shell]:
    url = database.set(drivername="postgresql").render_as_string(hide_password=False)
    shell = Shell(tmp_path, {"HPO_STORAGE_URL": url, "PYTHONDONTWRITEBYTECODE": "1"})
    shell.write("own.toml", STUDY)
    yield shell
    shell.close()


def test_workers_with_other_code_end_at_once(own: Callable[..., None], shell: Shell, database: URL) -> None:
    shell.hpo("study", "create", "own.toml")
    own(network=OTHER_NETWORK)
    refusal = "hpo: study 'own': model.name = \"own_nets:Net\": the hash of its code is "
    worker = shell.hpo("worker", "own", expect=2)
    assert worker.stderr.startswith(refusal)
    assert worker.stderr.count("\n") == 1
    launcher = shell.hpo("workers", "own", "--gpus", "cpu", "--per-device", "1", expect=1)
    assert launcher.stderr.count(refusal) == 1
    assert "it is not started again" in launcher.stderr
    again = shell.hpo("study", "create", "own.toml", expect=2)
    assert again.stderr.startswith("hpo: own.toml: model.name = ")
    storage = open_url(database)
    assert load(storage, "own").identity.network is not None
    storage.engine.dispose()
