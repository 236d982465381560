"""Several processes ask for the same arrays, and some are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.data.arrays import open_mapped

OWN = """
import os, pathlib
import numpy as np

def load():
    with open("calls", "a") as file:
        file.write("call\\n")
    if os.path.exists("started"):
        pathlib.Path("started").write_text("started")
        pathlib.Path("go").read_text()
    images = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
    return images, np.arange(6) % 2, images[:2], np.arange(2), ["a", "b"]
"""

ASK = """
import sys
from pathlib import Path
from hpo.data.arrays import open_mapped
content = sys.argv[1] if len(sys.argv) > 1 else None
print(open_mapped("own_arrays:load", Path("data"), Path("arrays"), content).facts.hashes.content)
"""

KILLED = """
import os, signal
from hpo.data import arrays
write = arrays._write_file
def killed(path, content):
    write(path, content)
    if path.name == "test_images.npy":
        os.kill(os.getpid(), signal.SIGKILL)
arrays._write_file = killed
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_arrays.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return out.strip()


def test_processes_that_ask_at_once_call_the_function_once(folder: Path) -> None:
    content = output(start(ASK))
    (folder / "arrays").rename(folder / "elsewhere")
    (folder / "calls").unlink()
    os.mkfifo(folder / "started")
    os.mkfifo(folder / "go")
    processes = [start(ASK, content) for _ in range(3)]
    (folder / "started").read_text()  # one of them is in the function and has the lock
    (folder / "go").write_text("go")
    assert [output(process) for process in processes] == [content] * 3
    assert (folder / "calls").read_text() == "call\n"


def test_killed_writer_leaves_nothing_half_made(folder: Path) -> None:
    writer = start(KILLED + ASK)
    assert writer.wait(60) == -9
    arrays = folder / "arrays"
    assert [path for path in arrays.iterdir() if path.is_dir() and not path.name.startswith(".")] == []
    content = output(start(ASK))
    assert [path.name for path in arrays.iterdir() if path.is_dir()] == [content]
    train = open_mapped("own_arrays:load", folder, arrays, content).load_train()
    assert train.images.sum() == sum(range(120))
