"""Where the results come from, and the commands that repeat them."""

import platform
from collections.abc import Iterator
from importlib.metadata import version

import tomli_w

from hpo.report.blocks import Code, Section, Table
from hpo.report.study_data import StudyData
from hpo.values.wording import counted

MAX_NAMES = 20
"""Workers that are listed by name."""


def provenance(data: StudyData) -> Section:
    """Return facts of the study, its file, and commands."""
    name = data.study.name
    return Section(
        "provenance",
        "Provenance",
        [
            Table(["what", "value"], [*_facts(data)]),
            Code(
                "Commands that repeat the study, and take its results elsewhere:",
                [
                    f"hpo study show {name} --json > {name}.json   # every trial and epoch",
                    f"hpo run {name}.toml                          # with the study file below",
                    f"hpo export {name} --bundle best-{name}       # parameters, weights, test metrics",
                    f"hpo report {name} -o {name}.html             # this page",
                ],
            ),
            Code(f"{name}.toml, the stored study file:", _file(data).splitlines(), folded=True),
        ],
    )


def _file(data: StudyData) -> str:
    return tomli_w.dumps(data.study.spec.to_json())


def _facts(data: StudyData) -> Iterator[tuple[str, str]]:
    study, identity = data.study, data.study.identity
    yield "study", study.name
    yield "trains", study.spec.code
    if not study.spec.is_function:
        yield "data", study.spec.data.name
    yield "seed", str(study.spec.seed)
    yield "fingerprint", study.fingerprint
    if identity.data is not None:
        yield "hash of the data", identity.data.content
    if identity.network is not None:
        yield "hash of the network's code", identity.network
    if identity.function is not None:
        yield "hash of the function's code", identity.function
    if data.origin is not None:
        yield "forked from", f"{data.origin}, {counted(study.inherited, 'trial')} inherited"
    started = [trial.times.started for trial in data.history.trials if trial.times.started is not None]
    if started:
        yield "first trial started", f"{min(started):%Y-%m-%d %H:%M:%S} UTC"
    yield "workers", _listed({event.worker for _, event in data.events if event.worker is not None})
    yield "devices", _listed({device for trial in data.history.trials if (device := trial.row.record.device)})
    if data.history.foreign:
        foreign = data.history.foreign
        numbers = ", ".join(str(trial.number) for _, trial in foreign[:MAX_NAMES])
        yield "trials of other programs", f"{len(foreign)}, left out of this report: {numbers}"
    yield "report made", f"{data.now:%Y-%m-%d %H:%M:%S} UTC by hpo {version('hpo')}"
    yield "Python, Optuna", f"{platform.python_version()}, {version('optuna')}"


def _listed(names: set[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - MAX_NAMES} more" if len(ordered) > MAX_NAMES else ""
    return (", ".join(ordered[:MAX_NAMES]) or "none yet") + more
