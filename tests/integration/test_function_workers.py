"""Workers that train with a user's function: results, pauses, failures, and ends of all kinds."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from safetensors.numpy import load
from support.processes import until, until_gone
from support.small_worker import LIMITS, epoch_rows, forget_worker, states, trials

from hpo.artifacts.folder import FolderStore
from hpo.errors import ConflictError
from hpo.functions.encoding import decode, decode_files
from hpo.functions.spares import FunctionProcesses
from hpo.functions.task import FunctionLimits
from hpo.settings import PYTHON, Settings, child_environment
from hpo.spec.identity import Identity
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study.create import create
from hpo.study.lifecycle import stopped
from hpo.study.study import Study
from hpo.values.stage import Stage
from hpo.worker.context import WorkerSettings
from hpo.worker.function_training import FunctionTraining
from hpo.worker.runtime import Runtime, WorkerLimits
from hpo.worker.worker import Worker

SUPPORT = Path(__file__).parents[1] / "support"
FAST = replace(LIMITS, functions=FunctionLimits(poll_seconds=0.01))
"""Outcomes do not depend on how busy the machine is."""

SPEC: Mapping[str, Any] = {
    "seed": 1,
    "train": {"function": "training_functions:fit"},
    "space": {"case": ["walks"], "step": [0.25, 0.5, 1.0, 2.0]},
    "sampler": {"name": "random"},
    "pruner": {"name": "none"},
    "search": {"trials": 4, "epochs": 8},
    "full": {"epochs": 5},
}


@dataclass
class FunctionWorkers:
    """Creates studies of `training_functions:fit`, and workers in this process."""

    storage: Storage
    folder: Path
    processes: FunctionProcesses
    limits: WorkerLimits = field(default=FAST)

    def study(self, name: str = "walks", **changes: Any) -> Study:
        """Create a study; `changes` are to its file, tables of the space and others by key."""
        spec = {"name": name, **SPEC}
        for key, value in changes.items():
            spec[key] = {**spec.get(key, {}), **value} if isinstance(value, dict) else value
        return create(self.storage, StudySpec.parse(spec), "test").study

    def worker(self, study: Study, name: str = "w", **options: Any) -> Worker:
        store = FolderStore(self.folder / study.artifacts_name)
        settings = WorkerSettings(name, "cpu", store, **options)
        runtime = Runtime(limits=self.limits)
        return Worker(self.storage, study, FunctionTraining(study, self.processes), settings, runtime)

    def run(self, name: str = "walks", **changes: Any) -> Study:
        """Create a study and train it to its end."""
        study = self.study(name, **changes)
        self.worker(study, promotes=True).run()
        return study

    def epochs(self, study: Study, stage: Stage = "search") -> dict[int, list[tuple[Any, ...]]]:
        return epoch_rows(self.storage, study, stage)


@pytest.fixture(scope="module", autouse=True)
def _in_support() -> Iterator[None]:
    """Functions are imported from the working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(SUPPORT)
        yield


@pytest.fixture(scope="module")
def processes(_in_support: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionProcesses]:
    with closing(
        FunctionProcesses("training_functions:fit", tmp_path_factory.mktemp("functions"))
    ) as processes:
        yield processes


@pytest.fixture
def functions(storage: Storage, tmp_path: Path, processes: FunctionProcesses) -> FunctionWorkers:
    return FunctionWorkers(storage, tmp_path / "artifacts", processes)


def test_study_is_searched_promoted_and_trained_in_full(functions: FunctionWorkers) -> None:
    study = functions.run(promotion={"top": 1, "seeds": 2})
    assert states(functions.storage, study) == ["COMPLETE"] * 4
    assert {number: len(rows) for number, rows in functions.epochs(study).items()} == dict.fromkeys(
        range(4), 8
    )
    for row in trials(functions.storage, study, "full"):
        rows = functions.epochs(study, "full")[row.number]
        losses = [metrics["loss"] for _, metrics, _ in rows]
        assert (row.value, row.record.kept_epoch) == (min(losses), losses.index(min(losses)) + 1)
        store = FolderStore(functions.folder / study.artifacts_name)
        arrays = load(store.get(str(row.record.weights)))
        state: Any = decode(arrays)
        assert abs(state["place"]).sum() == row.value
        assert state["tags"] == ("new", 1)
        assert len(decode_files(arrays)["notes/diary.txt"].tobytes().splitlines()) == row.record.kept_epoch


@pytest.mark.parametrize("every", [1, 2])
def test_paused_trials_resume_exactly(functions: FunctionWorkers, every: int) -> None:
    space = {"every": [every]}
    straight = functions.epochs(functions.run("straight", space=space))
    study = functions.run(
        "paused", space=space, pruner={"name": "pause", "min_epochs": 1}, promotion={"top": 2}
    )
    records = trials(functions.storage, study)
    assert {row.state for row in records} == {TrialState.COMPLETE, TrialState.PRUNED}
    for number, rows in functions.epochs(study).items():
        assert rows == straight[number][: len(rows)]


def test_function_may_end_before_its_budget(functions: FunctionWorkers) -> None:
    study = functions.run(space={"case": ["stops_early"]}, search={"trials": 1}, pruner={"name": "pause"})
    rows = [*trials(functions.storage, study), *trials(functions.storage, study, "full")]
    assert [(row.state, row.value, row.record.epochs) for row in rows] == [(TrialState.COMPLETE, 0.5, 2)] * 2
    store = FolderStore(functions.folder / study.artifacts_name)
    assert decode(load(store.get(str(rows[1].record.weights)))) == "the end"


def test_killed_process_of_a_function_costs_nothing(functions: FunctionWorkers, tmp_path: Path) -> None:
    expected = functions.epochs(functions.run("undisturbed"))
    killed = functions.run("killed", space={"once": [str(tmp_path / "done")], "at": [6], "every": [4]})
    assert (tmp_path / "done").exists()
    assert functions.epochs(killed) == expected
    assert states(functions.storage, killed) == ["COMPLETE"] * 4


def test_failed_trial_has_reason_and_traceback(functions: FunctionWorkers, caplog: Any) -> None:
    study = functions.run(space={"case": ["raises", "walks"]}, search={"trials": 8, "epochs": 2})
    rows = trials(functions.storage, study)
    failed = [row for row in rows if row.state == TrialState.FAIL]
    assert (len(rows), len(failed)) == (8, 4)  # more than a worker takes of its own
    seen = functions.storage.study(study.name).trials
    for row in failed:
        assert str(row.record.reason).startswith("ValueError at training_functions.py:")
        traceback = seen[row.number].user_attrs["traceback"]
        assert traceback.endswith("ValueError: no luck\n")
        assert "running.py" not in traceback  # of the worker
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert ["Traceback" in error for error in errors] == [True, False, False, False]


def test_function_that_always_fails_stops_the_search(functions: FunctionWorkers) -> None:
    space = {"case": ["exits_at_once"], "step": {"low": 0.0, "high": 1.0}}
    study = functions.run(space=space, search={"trials": 8})
    mark = stopped(functions.storage, study, "search")
    assert mark is not None
    assert mark.reason.startswith(
        "5 trials failed and none has trained an epoch; trial 0: its process ended with"
    )
    assert 5 <= states(functions.storage, study).count("FAIL") < 8  # another trial may have begun


def test_function_that_hangs_fails_its_trial_only(functions: FunctionWorkers, tmp_path: Path) -> None:
    space = {"case": ["hangs"], "step": [1.0], "pids": [str(tmp_path / "pid")]}
    study = functions.run(space=space, limits={"epoch_minutes": 0.01}, search={"trials": 1})
    (row,) = trials(functions.storage, study)
    assert str(row.record.reason).startswith("timed out at training_functions.py:")
    until_gone([int((tmp_path / "pid").read_text())])


def test_changed_code_is_refused(functions: FunctionWorkers) -> None:
    study = replace(functions.study(), identity=Identity(function="0" * 64))
    training = FunctionTraining(study, functions.processes)
    with pytest.raises(ConflictError, match=r"^study 'walks': train.function = .*the hash of its code"):
        training.check()
    with pytest.raises(ConflictError):  # also of a process that starts later
        functions.worker(study).run()


SAME_NAME = """
def fit(trial):
    from helper import offset
    return trial.params["x"] + offset
"""


def test_modules_of_two_studies_never_mix(functions: FunctionWorkers, tmp_path: Path) -> None:
    """Both studies have a module `train` and a module `helper`, and are served by one process."""
    values = {}
    for offset in (10, 20):
        folder = tmp_path / str(offset)
        folder.mkdir()
        (folder / "train.py").write_text(SAME_NAME)
        (folder / "helper.py").write_text(f"offset = {offset}\n")
        with (
            pytest.MonkeyPatch.context() as patch,
            closing(FunctionProcesses("train:fit", tmp_path)) as processes,
        ):
            patch.chdir(folder)
            spec = {
                "name": f"same-{offset}",
                **SPEC,
                "train": {"function": "train:fit"},
                "space": {"x": [1, 2]},
            }
            study = create(functions.storage, StudySpec.parse(spec), "test").study
            replace(functions, processes=processes).worker(study).run()
        values[offset] = sorted(row.value or 0.0 for row in trials(functions.storage, study))
    assert values == {10: [11, 12], 20: [21, 22]}


def environment(functions: FunctionWorkers, home: Path) -> dict[str, str]:
    """Return the environment of a real worker."""
    changes = {"artifacts": str(functions.folder), "home": home}
    settings = Settings.from_environment().model_copy(update=changes)
    url = functions.storage.url.render_as_string(hide_password=False)
    return child_environment(**{**settings.to_environment(), "HPO_STORAGE_URL": url})


def start_worker(functions: FunctionWorkers, study: Study, home: Path) -> subprocess.Popen[str]:
    words = [*PYTHON, "-m", "hpo", "worker", study.name, "--name", "real"]
    return subprocess.Popen(words, env=environment(functions, home), stderr=subprocess.PIPE, text=True)


LIGHT = """
import sys
from hpo.run.worker_process import WorkerOptions, run_worker
run_worker(WorkerOptions(sys.argv[1], "cpu"))
assert not {"torch", "training_functions"} & set(sys.modules)
"""


def test_worker_imports_neither_torch_nor_the_users_module(
    functions: FunctionWorkers, tmp_path: Path
) -> None:
    study = functions.study(search={"trials": 2, "epochs": 2})
    subprocess.run([*PYTHON, "-c", LIGHT, study.name], env=environment(functions, tmp_path), check=True)
    assert states(functions.storage, study) == ["COMPLETE"] * 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_trial_of_an_ended_worker_resumes_exactly(
    functions: FunctionWorkers, tmp_path: Path, number: signal.Signals
) -> None:
    """The worker ends in the third epoch, in which the function hangs. Nothing of it is left."""
    search = {"trials": 1}
    expected = functions.epochs(functions.run("undisturbed", search=search))
    space = {"once": [str(tmp_path / "pid")], "at": [3], "hangs": [True]}
    study = functions.study("ended", space=space, search=search)
    worker = start_worker(functions, study, tmp_path / "home")
    until("the third epoch", lambda: (tmp_path / "pid").exists() or None)
    pid = int((tmp_path / "pid").read_text())
    worker.send_signal(number)
    _, log = worker.communicate()
    assert worker.returncode == (0 if number == signal.SIGTERM else -number), log
    until_gone([pid])
    if number == signal.SIGKILL:
        forget_worker(functions.storage, "real")
    functions.worker(study).run()
    assert functions.epochs(study) == expected
    (row,) = trials(functions.storage, study)
    assert (row.state, row.record.takeovers) == (TrialState.COMPLETE, 1)
