"""The value `Study`: a spec and the two Optuna studies that hold the trials."""

from dataclasses import dataclass
from json import dumps

from hpo.errors import ConflictError
from hpo.spec.identity import UNKNOWN, Identity
from hpo.spec.study_spec import StudySpec
from hpo.values.objective import Objective
from hpo.values.seeds import Purpose
from hpo.values.stage import Stage


@dataclass(frozen=True, slots=True)
class Study:
    """A stored study: one Optuna study for the search, one for full training.

    `key` is unique: a later study with the same name has another key. The first `inherited` search trials
    come from the study that this study was forked from. `identity` and `fingerprint` are those stored at
    creation: a later version may compute another fingerprint for the same spec. `retried` counts the search
    trials that repeat a failed one.
    """

    spec: StudySpec
    search_id: int
    full_id: int
    key: str
    fingerprint: str
    inherited: int = 0
    identity: Identity = UNKNOWN
    retried: int = 0

    @property
    def name(self) -> str:
        """Return the name of the study."""
        return self.spec.name

    @property
    def objective(self) -> Objective:
        """Return what the trials are ranked by."""
        return self.spec.make_objective()

    @property
    def trials(self) -> int:
        """Return the number of search trials there will be, with those that repeat a failed one."""
        return self.budget + self.retried

    @property
    def budget(self) -> int:
        """Return the number of search trials without repetitions: inherited and new, limited by the space."""
        count, cells = self.inherited + self.spec.search.trials, self.spec.space.cells
        return count if cells is None else min(count, cells)

    @property
    def planned(self) -> int:
        """Return the number of search trials that the sampler does not suggest: inherited and initial
        ones."""
        if self.spec.sampler.plans_all:
            return self.budget
        return min(self.budget, max(self.inherited, self.spec.sampler.startup))

    def check(self, present: Identity, place: str, *, in_file: bool) -> None:
        """Raise `ConflictError` if `present` is another identity than the stored one.

        `place` says where it was seen; `in_file`: it is a study file. A study of a version that stored no
        hashes is not checked.
        """
        difference = self.identity.difference(present)
        if difference is None:
            return
        ways = [difference.way_back]
        if in_file and difference.is_of_code:
            ways.append(
                "give the study file another name and keep the finished trials: "
                f"hpo study fork {self.name} FILE"
            )
        elif in_file:
            ways.append("give the study file another name")
        if in_file:
            ways.append(f"delete the stored study: hpo study delete {self.name}")
        raise ConflictError(
            f"{place}: {difference.key} = {dumps(self.spec.identity()[difference.key])}: "
            f"{difference.describe(self.name)}, and trials of both would not be comparable; "
            f"{', or '.join(ways)}"
        )

    def study_id(self, stage: Stage) -> int:
        """Return the id of the Optuna study of the stage."""
        return self.search_id if stage == "search" else self.full_id

    @property
    def artifacts_name(self) -> str:
        """Return the name of the study's files among those of all studies; see `open_artifacts`."""
        return artifacts_name(self.name, self.key)


def artifacts_name(name: str, key: str) -> str:
    """Return the name of the files of the study with this name and key."""
    return f"{name}-{key}"


def search_seed(spec: StudySpec, number: int) -> int:
    """Return the seed of the initial weights of search trial `number`."""
    return Purpose.SEARCH_WEIGHTS.derive(spec.seed, number)


def full_seed(spec: StudySpec, index: int) -> int:
    """Return the seed of the initial weights of the full training `index` of a promoted trial."""
    return Purpose.FULL_WEIGHTS.derive(spec.seed, index)
