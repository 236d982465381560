"""Plans with a real measurement on digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.study_file import FUNCTION_TEXT, load

from hpo.errors import InputError
from hpo.launch.executors.local import LocalExecutor
from hpo.launch.slot import Slot
from hpo.run.measurement import Measurement
from hpo.run.planning import at_once, plan_study
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec

ONE = LocalExecutor([Slot("cpu", "cpu", {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})])


def test_plan_is_measured(raw: Callable[..., dict[str, object]], tmp_path: Path) -> None:
    spec = StudySpec.parse(raw(engine={"compile": "never"}, data={"name": "digits", "mini": 0.5}), "test")
    plan = plan_study(spec, "test", Settings(home=tmp_path), ONE)
    figures = {figure.name: figure for figure in plan.figures}
    assert figures["search epochs"].expected == 12 * 9
    for name in ("search time", "full time", "total time", "device hours", "disk"):
        figure = figures[name]
        assert figure.low is not None
        assert figure.expected is not None
        assert figure.high is not None
        assert 0 < figure.low <= figure.expected <= figure.high
    weights = 4 * 30_000  # LeNet has more parameters than this, of four bytes
    assert (figures["disk"].high or 0) > 12 * weights


def test_training_function_is_not_called(tmp_path: Path) -> None:
    plan = plan_study(load(FUNCTION_TEXT), "test", Settings(home=tmp_path), ONE)
    assert [figure.name for figure in plan.figures if figure.expected is None] == [
        "total time",
        "device hours",
    ]


def test_training_function_trains_one_epoch_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "once.py").write_text(
        "from pathlib import Path\n"
        "def fit(trial):\n"
        "    for epoch in trial.epochs:\n"
        "        Path('called').open('a').write(f'{epoch};')\n"
        "        trial.save({'weights': [0.5] * 1000})\n"
        "        yield {'loss': 0.5}\n"
    )
    spec = StudySpec.parse(
        {
            "name": "once",
            "train": {"function": "once:fit"},
            "objective": {"metric": "loss", "direction": "minimize"},
            "space": {"depth": [1, 2, 3]},
            "search": {"trials": 3, "epochs": 4},
        }
    )
    plan = plan_study(spec, "test", Settings(home=tmp_path), ONE, calls=True)
    figures = {figure.name: figure for figure in plan.figures}
    assert (tmp_path / "called").read_text().startswith("1;")
    assert (figures["total time"].expected or 0) > 0
    assert (figures["device hours"].expected or 0) > 0


def test_mistake_of_any_measurement_is_raised() -> None:
    def measure(slot: Slot) -> Measurement:
        raise InputError(f"{slot.label}: no such device")

    with pytest.raises(InputError, match="no such device"):
        at_once(measure, [Slot("cpu", "a"), Slot("cpu", "b")])
