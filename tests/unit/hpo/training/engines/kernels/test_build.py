"""The kernels are built by the machine's C++ compiler."""

from pathlib import Path

import pytest

from hpo.training.engines.kernels import build
from hpo.training.engines.kernels.build import BuildError, compile_library, source_digest


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        ("no-such-compiler", r"no C\+\+ compiler: no-such-compiler: No such file"),
        ("false", r"false cannot build convolution\.cpp"),
    ],
)
def test_without_a_working_compiler_one_line_says_so(
    compiler: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(BuildError, match=message) as raised:
        compile_library(tmp_path / "kernels.so")
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_another_compiler_makes_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    before = source_digest()
    assert before == source_digest()
    monkeypatch.setenv("CXX", "clang++")
    assert before != source_digest()


def test_another_version_of_the_compiler_makes_another_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for version in ("12.2.0", "13.1.0"):
        # Both have the same command, as after an upgrade of the system.
        folder = tmp_path / version
        folder.mkdir()
        (folder / "some-compiler").write_text(f"#!/bin/sh\necho version {version}\n")
        (folder / "some-compiler").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
        monkeypatch.setenv("CXX", "some-compiler")
        build._version_of.cache_clear()
        digests.append(source_digest())
    assert len(set(digests)) == 2
