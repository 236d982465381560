"""Files of a study: written whole or not at all, read back to the bit, or refused with one line."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from hpo.store.leases import Lease
from hpo.study.schedule import LeasedTrial
from hpo.training.member import MemberState, Progress
from hpo.training.pack import Weights
from hpo.worker.artifacts import Artifacts, CheckpointError

SIZE = 11
ODD = torch.tensor([math.inf, -math.inf, math.nan, -0.0, 1e-45, 3e38])


def weights(seed: int = 0, size: int = SIZE, buffers: int = 5) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.randn(1, size, generator=generator)
    parameters[0, : len(ODD)] = ODD
    mean = torch.randn(1, buffers, generator=generator)
    return Weights(parameters, {"norm.mean": mean, "norm.seen": torch.tensor([7])})


def state(progress: Progress | None = None, best: bool = True, optimizer: bool = True) -> MemberState:
    found = {"mean": torch.randn(1, SIZE), "power": torch.rand(1, 1, dtype=torch.float64)}
    return MemberState(
        progress or Progress(epochs=3),
        weights(),
        weights(1) if best else None,
        found if optimizer else None,
    )


def trial(number: int = 4, token: int = 9) -> LeasedTrial:
    return LeasedTrial(number, Lease(100 + number, token), {"lr": 0.1, "batch_size": 16}, 1)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()


def assert_same_weights(one: Weights | None, other: Weights | None) -> None:
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert same(one.parameters, other.parameters)
        assert [*one.buffers] == [*other.buffers]
        assert all(same(one.buffers[name], other.buffers[name]) for name in one.buffers)


LOSSES = st.floats(allow_nan=False)
COUNTS = st.integers(0, 10_000)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return Artifacts(tmp_path_factory.mktemp("artifacts") / "study")


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "study")


@given(
    progress=st.builds(Progress, COUNTS, COUNTS, COUNTS, LOSSES, COUNTS, LOSSES, COUNTS),
    best=st.booleans(),
    optimizer=st.booleans(),
)
def test_a_checkpoint_comes_back_to_the_bit(
    shared: Artifacts, progress: Progress, best: bool, optimizer: bool
) -> None:
    wrote = state(progress, best, optimizer)
    name = shared.save_checkpoint("full", trial(), wrote)
    read = shared.load_checkpoint(name, weights(2))
    assert read.progress == wrote.progress
    assert_same_weights(read.weights, wrote.weights)
    assert_same_weights(read.best, wrote.best)
    assert (read.optimizer is None) == (not optimizer)
    if read.optimizer is not None and wrote.optimizer is not None:
        assert read.optimizer.keys() == wrote.optimizer.keys()
        assert all(same(read.optimizer[key], wrote.optimizer[key]) for key in read.optimizer)


def test_the_progress_of_a_beginner_comes_back(artifacts: Artifacts) -> None:
    """Its best loss is infinite."""
    name = artifacts.save_checkpoint("search", trial(), state(Progress()))
    assert artifacts.load_checkpoint(name, weights()).progress == Progress()


def test_tensors_that_are_not_contiguous_are_written_as_they_look(artifacts: Artifacts) -> None:
    across = torch.randn(SIZE, 2).T[:1]
    name = artifacts.save_checkpoint(
        "search", trial(), MemberState(Progress(1), Weights(across, {}), None, None)
    )
    assert same(artifacts.load_checkpoint(name, Weights(across, {})).weights.parameters, across.contiguous())


def test_weights_are_an_ordinary_state_dict(artifacts: Artifacts) -> None:
    wanted = {"linear.weight": torch.randn(3, 2), "norm.seen": torch.tensor(7)}
    name = artifacts.save_weights(trial(), wanted)
    found = load_file(artifacts.folder / name)
    assert found.keys() == wanted.keys()
    assert all(same(found[key], wanted[key]) for key in wanted)


def test_no_two_leases_write_the_same_file(artifacts: Artifacts) -> None:
    names = [
        artifacts.save_checkpoint(stage, trial(number, token), state(Progress(epochs=epochs)))
        for stage in ("search", "full")
        for number in (1, 2)
        for token in (1, 12)
        for epochs in (1, 21)
    ]
    names += [artifacts.save_weights(trial(n, token), {}) for n in (1, 2) for token in (1, 12)]
    assert len(set(names)) == len(names) == len(files(artifacts.folder)) == 20


# Files that are of no use


def keep(path: Path, part: slice) -> None:
    path.write_bytes(path.read_bytes()[part])


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], object]) -> None:
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def other_progress(text: str) -> Callable[[Path], None]:
    return lambda path: rewrite(path, lambda _, metadata: metadata.update(progress=text))


def other_tensor(name: str, tensor: Tensor) -> Callable[[Path], None]:
    return lambda path: rewrite(path, lambda tensors, _: tensors.update({name: tensor}))


def without(name: str) -> Callable[[Path], None]:
    return lambda path: rewrite(path, lambda tensors, _: tensors.pop(name))


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "not there": Path.unlink,
    "a folder": make_folder,
    "empty": lambda path: path.write_bytes(b""),
    "cut in the header": lambda path: keep(path, slice(20)),
    "cut in the tensors": lambda path: keep(path, slice(-1)),
    "begun in the middle": lambda path: keep(path, slice(100, None)),
    "too long": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "something else": lambda path: path.write_text("Postgres is not\na checkpoint\n" * 100),
    "an endless header": lambda path: path.write_bytes(b"\xff" * 100),
    "without progress": lambda path: rewrite(path, lambda _, metadata: metadata.pop("progress")),
    "progress that is no JSON": other_progress("three epochs"),
    "progress that is a list": other_progress("[3]"),
    "progress that is a number": other_progress("3"),
    "progress of which a part lacks": other_progress('{"epochs": 3}'),
    "without weights": lambda path: rewrite(path, lambda tensors, _: tensors.clear()),
    "without parameters": without("weights.parameters"),
    "parameters of another network": other_tensor("weights.parameters", torch.zeros(1, SIZE + 1)),
    "best parameters of another network": other_tensor("best.parameters", torch.zeros(1, SIZE + 1)),
    "a buffer of another network": other_tensor("weights.buffers.norm.mean", torch.zeros(1, 6)),
    "a buffer too many": other_tensor("weights.buffers.other", torch.zeros(1, 6)),
    "a buffer too few": without("best.buffers.norm.seen"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_file_that_is_of_no_use_is_refused_with_one_line(
    artifacts: Artifacts, damage: Callable[[Path], object]
) -> None:
    name = artifacts.save_checkpoint("search", trial(), state())
    (path,) = artifacts.folder.rglob(name)
    damage(path)
    with pytest.raises(CheckpointError) as caught:
        artifacts.load_checkpoint(name, weights())
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message) > len(f"{path}: ")
    assert "\n" not in message


def test_what_is_set_aside_is_kept_and_is_not_found_again(artifacts: Artifacts) -> None:
    name = artifacts.save_checkpoint("search", trial(), state())
    artifacts.set_aside(name)
    assert files(artifacts.folder) == [f"checkpoints/{name}.damaged"]
    with pytest.raises(CheckpointError):
        artifacts.load_checkpoint(name, weights())
    artifacts.set_aside(name)  # there is nothing left to set aside
    assert files(artifacts.folder) == [f"checkpoints/{name}.damaged"]


# Deleting


def test_discarding_takes_what_it_is_told(artifacts: Artifacts) -> None:
    names = [artifacts.save_checkpoint("search", trial(number), state()) for number in range(3)]
    artifacts.discard([names[0], "never-there.safetensors", names[2]])
    assert files(artifacts.folder) == [f"checkpoints/{names[1]}"]
    artifacts.discard([])


def test_the_checkpoints_of_ended_trials_go_whoever_wrote_them(artifacts: Artifacts) -> None:
    ended: set[str] = set()
    others: set[str] = set()
    for number in (3, 30, 30003):
        for token in (1, 2):
            for epochs in (1, 2):
                name = artifacts.save_checkpoint("search", trial(number, token), state(Progress(epochs)))
                (ended if number in (3, 30003) else others).add(name)
    others.add(artifacts.save_checkpoint("full", trial(3), state()))
    aside = artifacts.save_checkpoint("search", trial(3, 5), state())
    artifacts.set_aside(aside)
    weights_file = artifacts.save_weights(trial(3), {})
    artifacts.discard_of("search", [3, 30003, 77])
    left = {f"checkpoints/{name}" for name in (*others, f"{aside}.damaged")}
    assert set(files(artifacts.folder)) == left | {weights_file}
    assert ended.isdisjoint(files(artifacts.folder / "checkpoints"))


def test_a_sweep_leaves_the_weights_that_are_named_and_no_folder_of_checkpoints(artifacts: Artifacts) -> None:
    kept, _left_over = artifacts.save_weights(trial(1), {}), artifacts.save_weights(trial(2), {})
    for number in range(3):
        artifacts.save_checkpoint("search", trial(number), state())
    (artifacts.folder / ".trial-0003-1.safetensors.half").touch()
    artifacts.sweep(path for path in artifacts.leftovers() if path.name != kept)
    assert [path.name for path in artifacts.folder.iterdir()] == [kept]
    artifacts.sweep(path for path in artifacts.leftovers() if path.name != kept)


def test_a_sweep_keeps_what_was_set_aside(artifacts: Artifacts) -> None:
    aside, other = (artifacts.save_checkpoint("search", trial(number), state()) for number in (1, 2))
    artifacts.set_aside(aside)
    artifacts.sweep(artifacts.leftovers())
    assert files(artifacts.folder) == [f"checkpoints/{aside}.damaged"]
    assert other not in files(artifacts.folder)


@pytest.mark.parametrize("act", ["discard", "discard_of", "sweep", "set_aside"])
def test_a_study_without_files_has_none_to_delete(artifacts: Artifacts, act: str) -> None:
    arguments = {"discard": (["x"],), "discard_of": ("search", [1]), "set_aside": ("x",)}.get(act, ([],))
    getattr(artifacts, act)(*arguments)
    assert not artifacts.folder.exists()


# Whole or not at all


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_no_file(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(type(error)):
            artifacts.save_checkpoint("search", trial(), state())
        with pytest.raises(type(error)):
            artifacts.save_weights(trial(), {})
    assert files(artifacts.folder) == []


def test_a_write_that_fails_leaves_the_file_before(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = artifacts.save_weights(trial(), {"x": torch.zeros(3)})

    def fail(_number: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        artifacts.save_weights(trial(), {"x": torch.ones(3)})
    assert files(artifacts.folder) == [name]
    assert same(load_file(artifacts.folder / name)["x"], torch.zeros(3))


def test_nothing_has_its_name_before_it_is_safe(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = os.fsync, list[list[str]]()

    def look(number: int) -> None:
        seen.append(files(artifacts.folder))
        whole(number)

    monkeypatch.setattr(os, "fsync", look)
    name = artifacts.save_weights(trial(), {"x": torch.zeros(3)})
    temporary, final = seen
    assert final == [name]  # and then the folder itself
    assert temporary != [name]


def test_where_no_folder_can_be_it_is_an_error_of_the_system(artifacts: Artifacts) -> None:
    artifacts.folder.write_text("a file in its place")
    with pytest.raises(OSError, match="study"):
        artifacts.save_checkpoint("search", trial(), state())
    with pytest.raises(OSError, match="study"):
        artifacts.save_weights(trial(), {})
    with pytest.raises(CheckpointError):
        artifacts.load_checkpoint("x", weights())
    artifacts.discard(["x"])
    artifacts.discard_of("search", [1])
    assert artifacts.leftovers() == []
    artifacts.sweep([])
