"""The analysis in a bundle, whose path is not trusted."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.report_data import study_data

from hpo.report.analysis import MAX_BYTES, PNG, read_analysis
from hpo.report.blocks import Picture, Text
from hpo.report.sections.errors import errors

STUDY = study_data([]).study


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "analysis").mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps({"study_key": STUDY.key}))
    (folder / "analysis" / "errors.md").write_text("# Where the errors are\n\n10 examples, 1 error.\n")
    (folder / "analysis" / "confusion.png").write_bytes(PNG + b"picture")
    return folder


def test_newest_bundle_of_the_study_is_read(bundle: Path, tmp_path: Path) -> None:
    analysis = read_analysis(STUDY, [None, 7, str(tmp_path / "gone"), str(bundle)])
    assert analysis is not None
    assert [*analysis.pictures] == ["confusion.png"]
    section = errors(replace(study_data([]), analysis=analysis))
    assert section is not None
    text, picture, _ = section.blocks
    assert text == Text(["10 examples, 1 error."])
    assert isinstance(picture, Picture)
    assert picture.uri.startswith("data:image/png;base64,")


def test_study_without_an_analysis_has_no_section(bundle: Path) -> None:
    (bundle / "analysis" / "errors.md").unlink()
    assert read_analysis(STUDY, [str(bundle)]) is None
    assert errors(study_data([])) is None


@pytest.mark.parametrize("provenance", ["{}", "[]", "no JSON", json.dumps({"study_key": "ffffffff"})])
def test_folder_of_another_study_is_not_read(bundle: Path, provenance: str) -> None:
    (bundle / "provenance.json").write_text(provenance)
    assert read_analysis(STUDY, [str(bundle)]) is None


def test_relative_or_odd_paths_are_not_read(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle.parent)
    assert read_analysis(STUDY, ["bundle", "\0", ""]) is None


def test_links_pipes_large_files_and_other_types_are_left_out(bundle: Path) -> None:
    folder = bundle / "analysis"
    (bundle / "secret").write_bytes(PNG)
    (folder / "confusion.png").write_bytes(b"no picture")
    (folder / "reliability.png").symlink_to(bundle / "secret")
    (folder / "confused-pairs.png").write_bytes(PNG + bytes(MAX_BYTES))
    analysis = read_analysis(STUDY, [str(bundle)])
    assert analysis is not None
    assert analysis.pictures == {}
    (folder / "errors.md").unlink()
    os.mkfifo(folder / "errors.md")
    assert read_analysis(STUDY, [str(bundle)]) is None
