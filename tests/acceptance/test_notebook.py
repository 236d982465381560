"""The notebook of the documents runs without a browser, and an interrupt of a kernel stops the workers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from support.shell import ROOT, Shell

from hpo.store.server import stop_server

NOTEBOOK = ROOT / "docs" / "notebooks" / "quickstart.ipynb"


pytestmark = pytest.mark.xdist_group("notebook")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Yield a user with a home folder for both studies, whose Jupyter has no settings."""
    folder = tmp_path_factory.mktemp("user")
    with TemporaryDirectory(prefix="hpo-", ignore_cleanup_errors=True) as home:
        yield Shell(folder, {"HPO_HOME": home, "JUPYTER_CONFIG_DIR": str(folder / "jupyter")})
        stop_server(Path(home) / "postgres")


def test_notebook_has_no_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)


@pytest.mark.slow
def test_notebook_runs_without_a_browser(user: Shell) -> None:
    """As `jupyter nbconvert --execute` does it."""
    shutil.copy(NOTEBOOK, user.folder)
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--execute", "--to=notebook", "--inplace", NOTEBOOK.name],
        cwd=user.folder,
        env=user.environment,
        text=True,
        capture_output=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads((user.folder / NOTEBOOK.name).read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    (screen,) = [shown(output) for output in outputs if output["output_type"] == "display_data"]
    assert "finished" in screen
    assert "3 of 3 trials" in screen
    assert "1 of 1 training" in screen
    texts = "\n".join(map(shown, outputs))
    assert "test accuracy" in texts
    assert "COMPLETE" in texts
    assert "{'lr': " in texts
    assert (user.folder / "best-notebook" / "metrics.json").is_file()


def shown(output: Mapping[str, Any]) -> str:
    """Return the text of an output of a cell."""
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", ""))


RUN = """
import hpo, psutil
from hpo.launch import local_executor
spec = {
    "name": "long", "model": {"name": "lenet"}, "data": {"name": "digits"},
    "space": {"lr": [0.01, 0.02], "batch_size": [16]}, "pruner": {"name": "none"},
    "search": {"trials": 2, "epochs": 10_000},
    "full": {"pretrain": {"epochs": 1}, "finetune": {"epochs": 1}},
    "engine": {"compile": "never"},
}
hpo.run_study(spec, local_executor("cpu", per_device=1))
"""

AFTERWARDS = """
print(sorted(hpo.load_study("long").trials_dataframe()["state"]))
commands = [child.cmdline() for child in psutil.Process().children(recursive=True)]
print([command for command in commands if "hpo" in command])
"""


@pytest.mark.slow
def test_interrupt_of_the_kernel_stops_the_workers(user: Shell) -> None:
    manager, client = start_new_kernel(
        kernel_name="python3", env=user.environment, cwd=str(user.folder), startup_timeout=120
    )
    try:
        request = client.execute(RUN)
        while not re.search(r" [1-9]\d* epoch", screen(client.get_iopub_msg(timeout=120))):
            pass
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=60)
        assert reply["parent_header"]["msg_id"] == request
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert printed(client, client.execute(AFTERWARDS)) == "['WAITING', 'WAITING']\n[]\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def screen(message: Mapping[str, Any]) -> str:
    """Return the screen of a study that a message shows, and nothing for other messages."""
    return str(message["content"].get("data", {}).get("text/plain", ""))


def printed(client: BlockingKernelClient, request: str) -> str:
    """Return what a cell prints until the kernel is idle again."""
    text, is_idle = "", False
    while not is_idle:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") == request:
            text += streamed(message)
            is_idle = message["content"].get("execution_state") == "idle"
    return text


def streamed(message: Mapping[str, Any]) -> str:
    """Return the text that a cell has printed with this message."""
    return str(message["content"]["text"]) if message["msg_type"] == "stream" else ""
