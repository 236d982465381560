"""The jobs that run in a process of their own, and that process: see `hpo.run.child`.

A job gets the settings and plain values, and returns plain values. It imports what it needs when it runs:
writing arrays needs no torch.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpo.data.arrays import open_mapped
from hpo.errors import HpoError
from hpo.run.child import encode_error, encode_running
from hpo.run.lifeline import follow_launcher
from hpo.run.logs import log_to_stderr
from hpo.settings import Settings
from hpo.user_code import listen


def check_study(settings: Settings, spec: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Check that a study file can be trained here. Return the attributes of its identity.

    Raises `InputError` for a mistake in the file, in the user's network, data or training function, and
    DataError if the files of a data set are missing or damaged.
    """
    from hpo.run.function import check_function
    from hpo.run.second_call import SecondCall
    from hpo.spec.mistakes import mistakes_of
    from hpo.spec.study_spec import StudySpec

    parsed = StudySpec.parse(spec, source)
    with mistakes_of(parsed, source):
        if parsed.is_function:
            return check_function(parsed).to_attributes()
        dataset = open_mapped(parsed.data.name, settings.data_path, settings.arrays_path)
        again = SecondCall(dataset, settings)

        # It imports torch, which takes as long as many a data set.
        from hpo.training.workload import Workload

        workload = Workload(parsed, dataset)
        workload.check()
        again.check()
        return workload.identity.to_attributes()


def measure_study(
    settings: Settings, spec: Mapping[str, Any], source: str, place: Mapping[str, Any]
) -> dict[str, Any]:
    """Measure epochs of a study on one device.

    `place`: the device and the environment of a slot, the largest `width` of a pack, and the time `begin`
    when this process was started. Raises `InputError` and DataError as `check_study` does.
    """
    from hpo.launch.standby import Assignment
    from hpo.spec.mistakes import mistakes_of
    from hpo.spec.study_spec import StudySpec

    Assignment(place["device"], place["environment"]).apply()  # torch reads the environment at its import
    parsed = StudySpec.parse(spec, source)
    with mistakes_of(parsed, source):
        if parsed.is_function:
            from hpo.run.function_measuring import measure_function

            return measure_function(parsed, place["device"], place["begin"]).to_json()
        from hpo.run.measuring import measure

        return measure(settings, parsed, place["device"], place["width"], place["begin"]).to_json()


def hash_function(_settings: Settings, function: str) -> dict[str, Any]:
    """Return the attributes of the identity of a study of this training function."""
    from hpo.run.function import identity_of

    return identity_of(function).to_attributes()


def hash_own_data(settings: Settings, name: str) -> dict[str, str]:
    """Return the hashes of a user's data set. What its function prints a second time is dropped."""
    from hpo.data.arrays import hashes_of
    from hpo.data.registry import open_dataset

    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    return asdict(hashes_of(open_dataset(name, settings.data_path)))


def write_arrays(settings: Settings, name: str, content: str | None) -> str:
    """Write the arrays of a data set, unless `content` is there. Return the hash of their content."""
    facts = open_mapped(name, settings.data_path, settings.arrays_path, content).facts
    assert facts is not None
    return facts.hashes.content


def export_study(
    settings: Settings, study: str, directory: str, trained: bool, request: Mapping[str, Any]
) -> dict[str, Any]:
    """Export a model of a study as `export_best` does. Return its metrics.

    `request` has the other fields of an `ExportRequest`.
    """
    from pydantic_core import to_jsonable_python

    from hpo.export.request import ExportRequest
    from hpo.run.export_best import export_best
    from hpo.run.retry import until_storage_answers
    from hpo.store.connection import open_storage
    from hpo.study.stored import load

    storage = until_storage_answers(lambda: open_storage(settings))
    stored = until_storage_answers(lambda: load(storage, study))
    wanted = ExportRequest(Path(directory), **request)
    plain: dict[str, Any] = to_jsonable_python(export_best(storage, stored, settings, wanted, trained))
    return plain


JOBS: Mapping[str, Callable[..., Any]] = {
    "check": check_study,
    "measure": measure_study,
    "arrays": write_arrays,
    "hash": hash_own_data,
    "function": hash_function,
    "export": export_study,
}


def main() -> None:
    """Answer one request."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a user's function prints is no answer
    request = json.loads(sys.stdin.readline())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # deletes half-written files
    follow_launcher()
    log_to_stderr(request["level"])

    def write(message: Mapping[str, Any]) -> None:
        answers.write(f"{json.dumps(message)}\n")
        answers.flush()

    listen(lambda running: write(encode_running(running)))
    try:
        result = JOBS[request["job"]](Settings.from_environment(), **request["arguments"])
        answer = {"result": result}
    except KeyboardInterrupt:
        sys.exit(130)
    except HpoError as error:
        answer = {"error": encode_error(error)}
    write(answer)


if __name__ == "__main__":
    main()
