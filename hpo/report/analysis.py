"""The analysis of errors in the bundle of a study, if this machine has the bundle.

The path stands in an event of the database, which is not trusted. So only files with the names of an analysis
are read, from a folder whose provenance names the study, and only pictures that are PNG.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from hpo.study.study import Study

FOLDER, WORDS = "analysis", "errors.md"
PICTURES: Mapping[str, str] = {
    "confusion.png": "Confusion matrix of the test part: labels by row, predictions by column.",
    "reliability.png": "Calibration: the share of right predictions against the probability given.",
    "confused-pairs.png": "Examples of the most confused pairs.",
}
"""The pictures of an analysis with their captions, in order."""

PNG = b"\x89PNG\r\n\x1a\n"
MAX_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Analysis:
    """The words of an analysis in Markdown, and the PNG files of its pictures by name."""

    directory: str
    words: str
    pictures: Mapping[str, bytes]


def read_analysis(study: Study, directories: Iterable[object]) -> Analysis | None:
    """Return the analysis in the first of these folders that is a bundle of the study and has one."""
    for directory in directories:
        if isinstance(directory, str) and (found := _read(study, Path(directory))) is not None:
            return found
    return None


def _read(study: Study, directory: Path) -> Analysis | None:
    if not directory.is_absolute() or not _is_bundle_of(study, directory):
        return None
    words = _content(directory / FOLDER / WORDS)
    if words is None:
        return None
    pictures = {
        name: content
        for name in PICTURES
        if (content := _content(directory / FOLDER / name)) is not None and content.startswith(PNG)
    }
    return Analysis(str(directory), words.decode("utf-8", "replace"), pictures)


def _is_bundle_of(study: Study, directory: Path) -> bool:
    content = _content(directory / "provenance.json")
    if content is None:
        return False
    try:
        provenance = json.loads(content)
    except ValueError:
        return False
    return isinstance(provenance, dict) and provenance.get("study_key") == study.key


def _content(path: Path) -> bytes | None:
    """Return the content of a plain file that is not large, None for anything else."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = file.read(MAX_BYTES + 1)
    return content if len(content) <= MAX_BYTES else None
