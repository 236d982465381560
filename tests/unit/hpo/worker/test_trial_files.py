"""Names, deletion and damage of a study's checkpoints and weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.member_states import SIZE, assert_same_weights, member_state, same, weights

from hpo.artifacts.folder import ArtifactFolder
from hpo.store.leases import Lease
from hpo.study.schedule import LeasedTrial
from hpo.training.member import MemberState, Progress
from hpo.worker.checkpoints import CheckpointError, encode_state
from hpo.worker.trial_files import TrialFiles


def trial(number: int = 4, token: int = 9) -> LeasedTrial:
    return LeasedTrial(number, Lease(100 + number, token), {"lr": 0.1, "batch_size": 16}, 1)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def trial_files(tmp_path: Path) -> TrialFiles:
    return TrialFiles(ArtifactFolder(tmp_path / "study"))


def test_checkpoint_comes_back_to_the_bit(trial_files: TrialFiles) -> None:
    state = member_state()
    name = trial_files.save_checkpoint("full", trial(), state)
    loaded = trial_files.load_checkpoint(name, weights(2))
    assert loaded.progress == state.progress
    assert_same_weights(loaded.weights, state.weights)
    assert_same_weights(loaded.best, state.best)


def test_weights_are_saved_as_a_plain_state_dict(trial_files: TrialFiles) -> None:
    wanted = {"linear.weight": torch.randn(3, 2), "norm.seen": torch.tensor(7)}
    name = trial_files.save_weights(trial(), wanted)
    loaded = load_file(trial_files.folder.root / name)
    assert loaded.keys() == wanted.keys()
    assert all(same(loaded[key], wanted[key]) for key in wanted)


def test_no_two_leases_write_the_same_file(trial_files: TrialFiles) -> None:
    names = [
        trial_files.save_checkpoint(stage, trial(number, token), member_state(Progress(epochs=epochs)))
        for stage in ("search", "full")
        for number in (1, 2)
        for token in (1, 12)
        for epochs in (1, 21)
    ]
    names += [trial_files.save_weights(trial(n, token), {}) for n in (1, 2) for token in (1, 12)]
    assert len(set(names)) == len(names) == len(files(trial_files.folder.root)) == 20


# Files that are of no use


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "not there": (Path.unlink, True),
    "a folder": (make_folder, True),
    "empty": (lambda path: path.write_bytes(b""), False),
    "of another network": (lambda path: path.write_bytes(encode_state(other_network())), False),
}
"""How a file is damaged, and whether that is an error of the system."""


def other_network() -> MemberState:
    return MemberState(Progress(3), weights(size=SIZE + 1), None, None)


@pytest.mark.parametrize(("damage", "of_the_system"), DAMAGES.values(), ids=DAMAGES.keys())
def test_checkpoint_that_does_not_load_is_refused_with_one_line(
    trial_files: TrialFiles, damage: Callable[[Path], object], of_the_system: bool
) -> None:
    name = trial_files.save_checkpoint("search", trial(), member_state())
    (path,) = trial_files.folder.root.rglob(name)
    damage(path)
    with pytest.raises(CheckpointError) as caught:
        trial_files.load_checkpoint(name, weights())
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) > len(f"{path}: ")
    assert "\n" not in message
    assert isinstance(caught.value.__cause__, OSError) == of_the_system


def test_damaged_checkpoint_is_kept_and_not_loaded_again(trial_files: TrialFiles) -> None:
    name = trial_files.save_checkpoint("search", trial(), member_state())
    trial_files.mark_damaged(name)
    assert files(trial_files.folder.root) == [f"checkpoints/{name}.damaged"]
    with pytest.raises(CheckpointError):
        trial_files.load_checkpoint(name, weights())
    trial_files.mark_damaged(name)  # there is nothing left to set aside
    assert files(trial_files.folder.root) == [f"checkpoints/{name}.damaged"]


# Deleting


def test_deletes_the_named_checkpoints_only(trial_files: TrialFiles) -> None:
    names = [trial_files.save_checkpoint("search", trial(number), member_state()) for number in range(3)]
    trial_files.delete_checkpoints([names[0], "never-there.safetensors", names[2]])
    assert files(trial_files.folder.root) == [f"checkpoints/{names[1]}"]
    trial_files.delete_checkpoints([])


def test_checkpoints_of_ended_trials_of_every_lease_are_deleted(trial_files: TrialFiles) -> None:
    ended: set[str] = set()
    others: set[str] = set()
    for number in (3, 30, 30003):
        for token in (1, 2):
            for epochs in (1, 2):
                name = trial_files.save_checkpoint(
                    "search", trial(number, token), member_state(Progress(epochs))
                )
                (ended if number in (3, 30003) else others).add(name)
    others.add(trial_files.save_checkpoint("full", trial(3), member_state()))
    aside = trial_files.save_checkpoint("search", trial(3, 5), member_state())
    trial_files.mark_damaged(aside)
    weights_file = trial_files.save_weights(trial(3), {})
    trial_files.delete_checkpoints_of("search", [3, 30003, 77])
    left = {f"checkpoints/{name}" for name in (*others, f"{aside}.damaged")}
    assert set(files(trial_files.folder.root)) == left | {weights_file}
    assert ended.isdisjoint(files(trial_files.folder.root / "checkpoints"))


def test_sweep_keeps_named_weights_and_removes_the_checkpoint_folder(trial_files: TrialFiles) -> None:
    kept, _left_over = trial_files.save_weights(trial(1), {}), trial_files.save_weights(trial(2), {})
    for number in range(3):
        trial_files.save_checkpoint("search", trial(number), member_state())
    (trial_files.folder.root / ".trial-0003-1.safetensors.half").touch()
    trial_files.sweep(path for path in trial_files.leftovers() if path != kept)
    assert [path.name for path in trial_files.folder.root.iterdir()] == [kept]
    trial_files.sweep(path for path in trial_files.leftovers() if path != kept)


def test_sweep_keeps_damaged_checkpoints(trial_files: TrialFiles) -> None:
    aside, other = (trial_files.save_checkpoint("search", trial(number), member_state()) for number in (1, 2))
    trial_files.mark_damaged(aside)
    trial_files.sweep(trial_files.leftovers())
    assert files(trial_files.folder.root) == [f"checkpoints/{aside}.damaged"]
    assert other not in files(trial_files.folder.root)


@pytest.mark.parametrize("act", ["delete_checkpoints", "delete_checkpoints_of", "sweep", "mark_damaged"])
def test_deleting_where_there_are_no_files_does_nothing(trial_files: TrialFiles, act: str) -> None:
    arguments = {
        "delete_checkpoints": (["x"],),
        "delete_checkpoints_of": ("search", [1]),
        "mark_damaged": ("x",),
    }.get(act, ([],))
    getattr(trial_files, act)(*arguments)
    assert not trial_files.folder.root.exists()


def test_saving_where_no_folder_can_be_raises_oserror(trial_files: TrialFiles) -> None:
    trial_files.folder.root.write_text("a file in its place")
    with pytest.raises(OSError, match="study"):
        trial_files.save_checkpoint("search", trial(), member_state())
    with pytest.raises(OSError, match="study"):
        trial_files.save_weights(trial(), {})
    with pytest.raises(CheckpointError):
        trial_files.load_checkpoint("x", weights())
    trial_files.delete_checkpoints(["x"])
    trial_files.delete_checkpoints_of("search", [1])
    assert trial_files.leftovers() == []
    trial_files.sweep([])
