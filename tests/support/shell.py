"""Run the real `hpo` command as a user does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpo.settings import PYTHON

ROOT = Path(__file__).parents[2]

SMALL_STUDY = """
seed = 1
[model]
name = "lenet"
[data]
name = "digits"
mini = 0.5
validation = 0.4
[space]
lr = [1e-3, 1e-2, 1e-1]
batch_size = [16, 32, 64]
momentum = [0, 0.9]
weight_decay = [0, 1e-4]
[sampler]
name = "random"
[pruner]
name = "none"
[search]
trials = 12
epochs = 3
[full]
pretrain = { epochs = 2 }
finetune = { epochs = 1 }
[promotion]
top = 1
seeds = 2
"""


@dataclass
class Shell:
    """A user's working folder and environment."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HPO_")}
        return {**inherited, "HPO_HOME": str(self.folder / "home"), **self.variables}

    def hpo(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `hpo` until it ends. Fail the test unless it exits with `expect`; None accepts every code."""
        done = subprocess.run(
            [*PYTHON, "-m", "hpo", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=280,
            check=False,
        )
        assert expect is None or done.returncode == expect, f"hpo {arguments}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments: str, lifeline: bool = False) -> subprocess.Popen[str]:
        """Start `hpo` in the background; `close` kills it at the latest.

        Its standard error is merged into its standard output. With `lifeline` its standard input is a pipe.
        """
        process = subprocess.Popen(
            [*PYTHON, "-m", "hpo", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """Kill the processes that a failed test left running. Workers end with their launcher."""
        for process in self._started:
            process.kill()
            process.wait()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path
