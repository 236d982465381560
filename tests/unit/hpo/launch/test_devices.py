"""Slots for --gpus and --per-device."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.errors import HpoError, InputError
from hpo.launch import devices
from hpo.launch.devices import slots
from hpo.launch.placement import MAX_CPU_WORKERS
from hpo.launch.slot import Slot, common_environment
from hpo.values.resources import Resources

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Set what this machine has: `machine(gpus=2, visible="1,0", cores=4)`.

    `gpus` as torch counts them: those that are visible and work.
    """

    def become(gpus: int = 0, visible: str | None = None, cores: int = 4) -> None:
        monkeypatch.setattr(devices, "_gpu_count", lambda _visible=None: gpus)
        monkeypatch.setattr(devices, "usable_cores", lambda: cores)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return become


def pinned(made: list[Slot]) -> list[str]:
    """Return the CUDA_VISIBLE_DEVICES of each slot."""
    assert {slot.device for slot in made} == {"cuda:0"}
    return [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in made]


def test_gpus_are_counted_only_on_machines_with_a_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(devices, "COUNT_GPUS", "print(3)")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver = tmp_path / "driver"
    monkeypatch.setattr(devices, "DRIVERS", ("/nowhere", str(driver)))
    assert slots("all", 1)[0].device == "cpu"
    driver.touch()
    assert len(slots("all", 1)) == 3
    monkeypatch.setattr(devices, "COUNT_GPUS", "raise ImportError('libcudart')")
    with pytest.raises(HpoError, match=r"^cannot count the GPUs: .*ImportError: libcudart$"):
        slots("all", 1)


def test_gpus_are_counted_without_importing_torch_here() -> None:
    code = (
        "import sys; from hpo.launch.devices import slots; slots('all', 1); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_means_one_worker_per_gpu(machine: Machine) -> None:
    machine(gpus=2)
    assert slots("all", None) == [
        Slot("cuda:0", "gpu0", {"CUDA_VISIBLE_DEVICES": "0"}),
        Slot("cuda:0", "gpu1", {"CUDA_VISIBLE_DEVICES": "1"}),
    ]


def test_per_device_puts_several_workers_on_each_gpu(machine: Machine) -> None:
    machine(gpus=3)
    assert pinned(slots("2,0", 2)) == ["2", "2", "0", "0"]


@pytest.mark.parametrize(
    ("visible", "gpus", "chosen", "expected"),
    [
        ("3,5", 2, "all", ["3", "5"]),
        ("3,5", 2, "1", ["5"]),  # ordinals count among the visible ones, as in torch
        ("5,3", 2, "0,1", ["5", "3"]),
        ("GPU-8e1d, GPU-77aa", 2, "all", ["GPU-8e1d", "GPU-77aa"]),
        ("GPU-8e1d,GPU-77aa", 2, "1", ["GPU-77aa"]),
        ("MIG-0a", 1, "all", ["MIG-0a"]),
        ("0,7", 1, "all", ["0"]),  # there is no 7
        ("0,-1,1", 1, "all", ["0"]),  # -1 ends the list
    ],
)
def test_outer_cuda_visible_devices_is_honoured(
    machine: Machine, visible: str, gpus: int, chosen: str, expected: list[str]
) -> None:
    machine(gpus=gpus, visible=visible)
    assert pinned(slots(chosen, None)) == expected


@pytest.mark.parametrize(
    ("gpus", "visible", "chosen"),
    [
        (0, None, "all"),
        (0, "", "all"),
        (0, "-1", "all"),
        (0, "NoDevFiles", "all"),
        (0, "0", "all"),
        (2, None, "cpu"),
        (2, "0,1", "cpu"),
    ],
)
def test_cpu_gets_one_worker_per_core(machine: Machine, gpus: int, visible: str | None, chosen: str) -> None:
    machine(gpus=gpus, visible=visible, cores=4)
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    assert slots(chosen, None) == [Slot("cpu", "cpu", environment)] * 4


@pytest.mark.parametrize(
    ("cores", "per_device", "workers", "threads"),
    [
        (1, None, 1, "1"),
        (6, None, 6, "1"),
        (64, None, MAX_CPU_WORKERS, "8"),
        (64, 2, 2, "32"),
        (5, 2, 2, "2"),
        (2, 5, 5, "1"),
    ],
)
def test_workers_share_the_cores(
    machine: Machine, cores: int, per_device: int | None, workers: int, threads: str
) -> None:
    machine(cores=cores)
    made = slots("cpu", per_device)
    assert len(made) == workers
    assert {slot.environment["OMP_NUM_THREADS"] for slot in made} == {threads}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("", "--gpus '': must be all, cpu, or ordinals such as 0,1"),
        ("ALL", "--gpus 'ALL': must be all, cpu, or ordinals such as 0,1"),
        ("0,", "--gpus '0,': must be all, cpu, or ordinals such as 0,1"),
        ("0;1", "--gpus '0;1': must be all, cpu, or ordinals such as 0,1"),
        ("GPU-8e1d", "--gpus 'GPU-8e1d': must be all, cpu, or ordinals such as 0,1"),
        ("1,1", "--gpus '1,1': names a GPU twice; --per-device puts several workers on one"),
        ("0,2", "--gpus '0,2': there is no GPU 2 here, 2 GPUs visible"),
        ("-1", "--gpus '-1': there is no GPU -1 here, 2 GPUs visible"),
    ],
)
def test_mistake_in_gpus_is_refused(machine: Machine, chosen: str, message: str) -> None:
    machine(gpus=2)
    with pytest.raises(InputError) as caught:
        slots(chosen, None)
    assert str(caught.value) == message


@pytest.mark.parametrize("visible", [None, "", "0", "GPU-8e1d"])
def test_gpu_is_refused_on_a_machine_without_one(machine: Machine, visible: str | None) -> None:
    machine(gpus=0, visible=visible)
    with pytest.raises(InputError, match=r"there is no GPU 0 here, none is visible; try --gpus cpu$"):
        slots("0", None)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("MIG-a,MIG-b", ["MIG-a", "MIG-b"]),
        ("MIG-a, MIG-b ,MIG-c", ["MIG-a", "MIG-b", "MIG-c"]),
        ("MIG-bad,MIG-b", ["MIG-b"]),
        ("MIG-a,-1,MIG-b", ["MIG-a"]),
        ("MIG-GPU-8e1d/1/0,MIG-GPU-8e1d/2/0", ["MIG-GPU-8e1d/1/0", "MIG-GPU-8e1d/2/0"]),
    ],
)
def test_each_part_of_a_gpu_is_a_slot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str, expected: list[str]
) -> None:
    """CUDA shows a process the first part only."""
    (tmp_path / "driver").touch()
    monkeypatch.setattr(devices, "DRIVERS", (str(tmp_path / "driver"),))
    code = "import os; name = os.environ['CUDA_VISIBLE_DEVICES'].split(',')[0]; print(int(name != 'MIG-bad'))"
    monkeypatch.setattr(devices, "COUNT_GPUS", code)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert pinned(slots("all", None)) == expected
    assert pinned(slots(f"{len(expected) - 1}", None)) == expected[-1:]


@pytest.mark.parametrize("visible", ["0,0", "MIG-a,MIG-a", "GPU-8e1d, GPU-8e1d"])
def test_device_that_is_visible_twice_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    machine(visible=visible)
    monkeypatch.setattr(devices, "_has_driver", lambda: True)
    with pytest.raises(InputError, match=r"^CUDA_VISIBLE_DEVICES = .* names a device twice"):
        slots("all", None)
    assert slots("cpu", 1)[0].device == "cpu"


def test_the_common_environment_pins_to_a_gpu_only_if_all_slots_do(machine: Machine) -> None:
    machine(gpus=2)
    assert common_environment(slots("all", None)) == {}
    assert common_environment(slots("1", 2)) == {"CUDA_VISIBLE_DEVICES": "1"}
    assert common_environment(slots("cpu", 2)) == slots("cpu", 2)[0].environment


def test_cpu_is_chosen_or_all_there_is(machine: Machine) -> None:
    machine(gpus=0, cores=4)
    with pytest.raises(InputError, match=r"^resources.gpus = 0.5: no GPU is visible here; --gpus cpu trains"):
        slots("all", None, Resources(gpus=0.5))
    assert len(slots("cpu", None, Resources(gpus=0.5))) == 4


def test_chosen_gpus_are_those_that_trials_share(machine: Machine) -> None:
    machine(gpus=4)
    assert pinned(slots("1,3", None, Resources(gpus=2))) == ["1,3"]
    assert pinned(slots("1,3", 1, Resources(gpus=0.5))) == ["1", "3"]
