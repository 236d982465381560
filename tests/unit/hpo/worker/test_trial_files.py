"""Names, deletion and damage of a study's checkpoints and weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load
from support.artifacts import MemoryStore, away
from support.states import SIZE, assert_same_state, check, state

from hpo.artifacts.folder import FolderStore
from hpo.errors import ArtifactNameError, AwayError
from hpo.store.checkpoints import Checkpoint
from hpo.store.leases import Lease
from hpo.study.schedule import LeasedTrial
from hpo.worker.checkpoints import CheckpointError, encode_state
from hpo.worker.trial_files import TrialFiles


def trial(number: int = 4, token: int = 9) -> LeasedTrial:
    return LeasedTrial(number, Lease(100 + number, token), {"lr": 0.1, "batch_size": 16}, 1)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def trial_files(store: MemoryStore) -> TrialFiles:
    return TrialFiles(store)


def test_checkpoint_comes_back_to_the_bit(trial_files: TrialFiles) -> None:
    name = trial_files.save_checkpoint("full", trial(), state())
    assert_same_state(trial_files.load_checkpoint(Checkpoint(3, name), check), state())


def test_weights_are_saved_as_a_plain_state_dict(trial_files: TrialFiles) -> None:
    wanted = {"linear.weight": np.arange(6.0).reshape(3, 2), "norm.seen": np.array(7)}
    name = trial_files.save_weights(trial(), wanted)
    loaded = load(trial_files.store.get(name))
    assert loaded.keys() == wanted.keys()
    assert all(np.array_equal(loaded[key], wanted[key]) for key in wanted)
    assert loaded["norm.seen"].shape == ()


def test_no_two_leases_write_the_same_file(trial_files: TrialFiles) -> None:
    names = [
        trial_files.save_checkpoint(stage, trial(number, token), state(epochs))
        for stage in ("search", "full")
        for number in (1, 2)
        for token in (1, 12)
        for epochs in (1, 21)
    ]
    names += [trial_files.save_weights(trial(n, token), {}) for n in (1, 2) for token in (1, 12)]
    assert len(set(names)) == len(names) == len(trial_files.store.list()) == 20


# Files that are of no use


@pytest.mark.parametrize(
    "data", [b"", encode_state(state(size=SIZE + 1))], ids=["empty", "of another network"]
)
def test_checkpoint_that_does_not_decode_is_refused_with_one_line(
    trial_files: TrialFiles, store: MemoryStore, data: bytes
) -> None:
    name = trial_files.save_checkpoint("search", trial(), state())
    store.files[f"checkpoints/{name}"] = data
    with pytest.raises(CheckpointError) as caught:
        trial_files.load_checkpoint(Checkpoint(3, name), check)
    message = str(caught.value)
    assert message.startswith(f"checkpoints/{name}: ")
    assert len(message) > len(f"checkpoints/{name}: ")
    assert "\n" not in message


def test_checkpoint_that_cannot_be_read_is_away(trial_files: TrialFiles, store: MemoryStore) -> None:
    with pytest.raises(AwayError):
        trial_files.load_checkpoint(Checkpoint(3, "never-there.safetensors"), check)


def test_checkpoint_whose_name_leaves_the_store_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(encode_state(state()))
    trial_files = TrialFiles(FolderStore(tmp_path / "study"))
    for name in ("../../secret", str(tmp_path / "secret")):
        with pytest.raises(ArtifactNameError):
            trial_files.load_checkpoint(Checkpoint(3, name), check)
        trial_files.set_aside(name)
        trial_files.delete_checkpoints([name])
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_damaged_checkpoint_is_kept_and_not_loaded_again(trial_files: TrialFiles, store: MemoryStore) -> None:
    name = trial_files.save_checkpoint("search", trial(), state())
    data = store.files[f"checkpoints/{name}"]
    trial_files.set_aside(name)
    assert store.files == {f"checkpoints/{name}.damaged": data}
    with pytest.raises(AwayError):
        trial_files.load_checkpoint(Checkpoint(3, name), check)
    trial_files.set_aside(name)  # there is nothing left to set aside
    assert store.files == {f"checkpoints/{name}.damaged": data}


@pytest.mark.parametrize("operation", ["get", "put", "delete"])
def test_damaged_checkpoint_is_never_lost(
    trial_files: TrialFiles, store: MemoryStore, operation: str
) -> None:
    name = trial_files.save_checkpoint("search", trial(), state())
    data = store.files[f"checkpoints/{name}"]
    store.before = lambda called, _name: away() if called == operation else None
    trial_files.set_aside(name)
    assert store.files[f"checkpoints/{name}"] == data


# Deleting


def test_deletes_the_named_checkpoints_only(trial_files: TrialFiles) -> None:
    names = [trial_files.save_checkpoint("search", trial(number), state()) for number in range(3)]
    trial_files.delete_checkpoints([names[0], "never-there.safetensors", names[2]])
    assert trial_files.store.list() == [f"checkpoints/{names[1]}"]
    trial_files.delete_checkpoints([])


def test_checkpoints_of_ended_trials_of_every_lease_are_deleted(trial_files: TrialFiles) -> None:
    ended: set[str] = set()
    others: set[str] = set()
    for number in (3, 30, 30003):
        for token in (1, 2):
            for epochs in (1, 2):
                name = trial_files.save_checkpoint("search", trial(number, token), state(epochs))
                (ended if number in (3, 30003) else others).add(name)
    others.add(trial_files.save_checkpoint("full", trial(3), state()))
    aside = trial_files.save_checkpoint("search", trial(3, 5), state())
    trial_files.set_aside(aside)
    weights_file = trial_files.save_weights(trial(3), {})
    trial_files.delete_checkpoints_of("search", [3, 30003, 77])
    left = {f"checkpoints/{name}" for name in (*others, f"{aside}.damaged")}
    assert set(trial_files.store.list()) == left | {weights_file}
    assert ended.isdisjoint(name.removeprefix("checkpoints/") for name in trial_files.store.list())


def test_sweep_keeps_named_weights_and_files_of_others(trial_files: TrialFiles, store: MemoryStore) -> None:
    kept, _left_over = trial_files.save_weights(trial(1), {}), trial_files.save_weights(trial(2), {})
    for number in range(3):
        trial_files.save_checkpoint("search", trial(number), state())
    store.files |= {".trial-0003-1.safetensors.half": b"", "checkpoints/.search-0003-1.half": b""}
    others = {"trial-0001-9.metrics.json", "bundle/weights.safetensors", "bundle/.trial"}
    store.files |= dict.fromkeys(others, b"")
    for _ in range(2):
        trial_files.sweep(path for path in trial_files.leftovers() if path != kept)
        assert store.files.keys() == {kept, *others}


def test_sweep_keeps_damaged_checkpoints(trial_files: TrialFiles) -> None:
    aside, other = (trial_files.save_checkpoint("search", trial(number), state()) for number in (1, 2))
    trial_files.set_aside(aside)
    trial_files.sweep(trial_files.leftovers())
    assert trial_files.store.list() == [f"checkpoints/{aside}.damaged"]
    assert other not in trial_files.store.list()


# A store that is away


@pytest.fixture
def store_away(store: MemoryStore) -> Iterator[None]:
    store.before = away
    yield
    assert store.files == {}


def test_saving_and_loading_raise_while_the_store_is_away(trial_files: TrialFiles, store_away: None) -> None:
    for operation in (
        lambda: trial_files.save_checkpoint("search", trial(), state()),
        lambda: trial_files.save_weights(trial(), {}),
        lambda: trial_files.load_checkpoint(Checkpoint(3, "x"), check),
    ):
        with pytest.raises(AwayError, match="No space left"):
            operation()


def test_deleting_does_nothing_while_the_store_is_away(trial_files: TrialFiles, store_away: None) -> None:
    trial_files.delete_checkpoints(["x"])
    trial_files.delete_checkpoints_of("search", [1])
    trial_files.set_aside("x")
    assert trial_files.leftovers() == []
    trial_files.sweep(["x"])
