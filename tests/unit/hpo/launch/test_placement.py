"""Where workers go: the resources of a trial against those of a machine."""

import pytest

from hpo.errors import InputError
from hpo.launch.placement import Machine, memory_text, place
from hpo.launch.slot import Slot
from hpo.values.resources import Resources

GB = 10**9


def machine(gpus: int = 0, cores: int = 16, memory: int = 64) -> Machine:
    """Return a machine with numbers of GPUs and cores, and GB of memory."""
    return Machine([str(gpu) for gpu in range(gpus)], cores, memory * GB)


def threads(made: list[Slot]) -> set[str]:
    return {slot.environment["OMP_NUM_THREADS"] for slot in made}


def seen(made: list[Slot]) -> list[str]:
    assert {slot.device for slot in made} == {"cuda:0"}
    return [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in made]


@pytest.mark.parametrize(
    ("resources", "workers", "each"),
    [
        (Resources(), 8, "2"),
        (Resources(cpus=1), 16, "1"),
        (Resources(cpus=4), 4, "4"),
        (Resources(cpus=5), 3, "5"),
        (Resources(cpus=16), 1, "16"),
        (Resources(cpus=17), 1, "16"),
        (Resources(memory=10 * GB), 6, "2"),
        (Resources(memory=1 * GB), 8, "2"),
        (Resources(memory=64 * GB), 1, "16"),
        (Resources(cpus=2, memory=20 * GB), 3, "2"),
    ],
)
def test_cores_and_memory_limit_the_workers_on_a_cpu(resources: Resources, workers: int, each: str) -> None:
    made = place(machine(), resources)
    assert len(made) == workers
    assert threads(made) == {each}
    assert {slot.device for slot in made} == {"cpu"}


@pytest.mark.parametrize(
    ("gpus", "resources", "expected"),
    [
        (2, Resources(), ["0", "1"]),
        (2, Resources(gpus=1), ["0", "1"]),
        (2, Resources(gpus=0.5), ["0", "0", "1", "1"]),
        (1, Resources(gpus=0.3), ["0", "0", "0"]),
        (1, Resources(gpus=0.1), ["0"] * 10),
        (4, Resources(gpus=2), ["0,1", "2,3"]),
        (5, Resources(gpus=2), ["0,1", "2,3"]),
        (4, Resources(gpus=4), ["0,1,2,3"]),
        (4, Resources(gpus=1, cpus=8), ["0", "1"]),
        (2, Resources(gpus=0.5, cpus=6), ["0", "1"]),
        (2, Resources(gpus=0.5, memory=20 * GB), ["0", "0", "1"]),
        (2, Resources(cpus=32), ["0"]),
    ],
)
def test_trials_share_gpus_or_have_several(gpus: int, resources: Resources, expected: list[str]) -> None:
    assert seen(place(machine(gpus), resources)) == expected


def test_workers_on_gpus_have_the_threads_of_a_trial() -> None:
    assert threads(place(machine(2), Resources(cpus=4))) == {"4"}
    assert threads(place(machine(2), Resources(cpus=99))) == {"16"}
    assert "OMP_NUM_THREADS" not in place(machine(2), Resources(gpus=2))[0].environment


def test_label_names_all_gpus_of_a_worker() -> None:
    assert [slot.label for slot in place(machine(4), Resources(gpus=2))] == ["gpu0+1", "gpu2+3"]


def test_given_number_of_workers_wins() -> None:
    assert len(place(machine(), Resources(cpus=16), per_device=3)) == 3
    assert seen(place(machine(4), Resources(gpus=2, cpus=16), per_device=2)) == ["0,1", "0,1", "2,3", "2,3"]
    assert seen(place(machine(1), Resources(gpus=0.5), per_device=1)) == ["0"]


@pytest.mark.parametrize(
    ("gpus", "resources", "message"),
    [
        (
            0,
            Resources(memory=65 * GB),
            "resources.memory: a trial needs 65 GB, and workers may use 64 GB here",
        ),
        (1, Resources(gpus=2), "resources.gpus: a trial needs 2 GPUs, and workers may use 1 here"),
    ],
)
def test_trial_that_does_not_fit_is_refused(gpus: int, resources: Resources, message: str) -> None:
    with pytest.raises(InputError) as caught:
        place(machine(gpus), resources, per_device=1)
    assert str(caught.value) == message


def test_parts_of_a_gpu_are_not_seen_together() -> None:
    parts = Machine(["MIG-a", "MIG-b"], 16, 64 * GB)
    assert seen(place(parts, Resources(gpus=0.5))) == ["MIG-a", "MIG-a", "MIG-b", "MIG-b"]
    with pytest.raises(InputError, match=r"^resources.gpus = 2: CUDA shows a process one part"):
        place(parts, Resources(gpus=2))


def test_too_few_cores_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    place(machine(), Resources(cpus=16))
    assert caplog.messages == []
    assert threads(place(machine(cores=1), Resources(cpus=4))) == {"1"}
    assert caplog.messages == ["resources.cpus = 4: a trial trains on 1 core here"]


def test_trial_without_gpu_leaves_gpus_alone() -> None:
    assert {slot.device for slot in place(machine(2), Resources(gpus=0))} == {"cpu"}


def test_trial_with_gpu_trains_on_the_cpu_only_if_that_is_chosen() -> None:
    with pytest.raises(InputError, match=r"^resources.gpus = 1: no GPU is visible here"):
        place(machine(), Resources(gpus=1))
    chosen = Machine([], 16, 64 * GB, is_cpu_chosen=True)
    assert len(place(chosen, Resources(gpus=1, cpus=8))) == 2


@pytest.mark.parametrize(
    ("size", "text"),
    [(8e9, "8 GB"), (16_777_216_000, "16.8 GB"), (4e6, "4 MB"), (500, "0.5 KB"), (2e12, "2 TB")],
)
def test_memory_is_shown_in_decimal_units(size: float, text: str) -> None:
    assert memory_text(size) == text
