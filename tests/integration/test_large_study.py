"""The generator of large studies."""

from __future__ import annotations

from benchmarks.large_study import fill, large_spec
from hpo.report import make_report, read_study
from hpo.store.connection import Storage
from hpo.study.create import create


def test_large_study_has_trials_of_every_kind_and_a_report(storage: Storage) -> None:
    study = create(storage, large_spec("large", 40, 3), "test").study
    assert fill(storage, study) == 40
    data = read_study(storage, study)
    states = {trial.row.state.name for trial in data.trials("search")}
    assert states >= {"COMPLETE", "PRUNED"}
    assert all(trial.curve for trial in data.trials("search"))
    anchors = [section.anchor for section in make_report(data).sections]
    assert anchors[0] == "summary"
    assert {"timeline", "effects", "predictions", "importance"} <= set(anchors)
