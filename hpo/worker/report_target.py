"""The stage of a study that a pack reports to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo.store.connection import Storage
from hpo.study.study import Study
from hpo.values.stage import Stage

Attributes = Mapping[str, Any]
"""User attributes of a trial."""


@dataclass(frozen=True, slots=True)
class ReportTarget:
    """The stage of a study that a worker reports to.

    `attributes` are set on each trial that ends. "worker" must be among them.
    """

    storage: Storage
    study: Study
    stage: Stage
    attributes: Attributes

    @property
    def worker(self) -> str:
        return str(self.attributes["worker"])

    @property
    def study_id(self) -> int:
        return self.study.study_id(self.stage)
