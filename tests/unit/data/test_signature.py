import os
from pathlib import Path

from hpo.data.registry import names, signature
from hpo.data.signature import file_signature


def test_signature_changes_with_size_time_and_words(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("first")
    os.utime(path, ns=(1, 1))
    signatures = {file_signature([path]), file_signature([path], "word")}
    os.utime(path, ns=(1, 2))
    signatures.add(file_signature([path]))
    path.write_text("longer")
    os.utime(path, ns=(1, 2))
    signatures.add(file_signature([path]))
    assert len(signatures) == 4
    assert file_signature([path]) in signatures


def test_missing_file_has_no_signature(tmp_path: Path) -> None:
    assert file_signature([tmp_path / "absent"]) is None


def test_data_sets_without_files_have_no_signature(tmp_path: Path) -> None:
    assert [name for name in (*names(), "own:load") if signature(name, tmp_path)] == ["digits"]
