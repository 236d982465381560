"""The report of a study: its sections in order."""

from collections.abc import Callable, Sequence

from hpo.report.blocks import Report, Section
from hpo.report.sections.curves import curves
from hpo.report.sections.effects import effects
from hpo.report.sections.errors import errors
from hpo.report.sections.history import history
from hpo.report.sections.importance import importance
from hpo.report.sections.parallel import parallel
from hpo.report.sections.predictions import predictions
from hpo.report.sections.promoted import promoted
from hpo.report.sections.provenance import provenance
from hpo.report.sections.summary import summary
from hpo.report.sections.timeline import timeline
from hpo.report.sections.usage import usage
from hpo.report.sections.warnings import warnings
from hpo.report.study_data import StudyData

SECTIONS: Sequence[Callable[[StudyData], Section | None]] = (
    summary,
    warnings,
    promoted,
    errors,
    history,
    curves,
    predictions,
    importance,
    effects,
    parallel,
    usage,
    timeline,
    provenance,
)
"""What makes each section, in order."""


def make_report(data: StudyData) -> Report:
    """Return the report of a study."""
    made = (make(data) for make in SECTIONS)
    study = data.study
    subtitle = f"{study.spec.code}, {study.objective.title}, {data.now:%Y-%m-%d %H:%M:%S} UTC"
    return Report(f"Study {study.name}", subtitle, [section for section in made if section is not None])
