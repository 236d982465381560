"""The service as its users have it: by command, with a study that is gone afterwards."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study.study import Study, load, remove

HPO = (sys.executable, "-m", "hpo")
LENET = Path(__file__).parents[1] / "studies" / "lenet-paper.toml"


def lenet(name: str, quick: bool, **changes: Any) -> StudySpec:
    """The paper's search of LeNet under another name; `quick`: six trials of two epochs on digits."""
    raw = StudySpec.load(LENET).to_json()
    if quick:
        raw["data"] |= {"name": "digits", "mini": 0.5, "validation": 0.4}
        raw["search"] = {"trials": 6, "epochs": 2}
    return StudySpec.parse({**raw, "name": f"{name}-{os.getpid()}", **changes}, "benchmark")


def hpo(*words: str) -> None:
    """Runs `hpo` to its end. If that is a bad one, its last words end the benchmark."""
    done = subprocess.run([*HPO, *words], text=True, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"hpo {' '.join(words)} ended with exit code {done.returncode}:\n{done.stderr}")


@contextmanager
def stored(storage: Storage, spec: StudySpec, artifacts: Path) -> Iterator[Study]:
    """The study of that spec, until the end of the block. `artifacts`: the artifact folder of all studies."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "study.toml")
        file.write_text(tomli_w.dumps(spec.to_json()))
        hpo("study", "create", str(file))
    study = load(storage, spec.name)
    try:
        yield study
    finally:
        remove(storage, study, artifacts)
