"""The real `hpo`, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]

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
    """A folder to work in and the environment of a user."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HPO_")}
        return {**kept, "HPO_HOME": str(self.folder / "home"), **self.variables}

    def hpo(self, *arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs `hpo` to its end; fails the test on another exit code than `expect`, if one is expected."""
        done = subprocess.run(
            [sys.executable, "-m", "hpo", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=280,
            check=False,
        )
        assert expect is None or done.returncode == expect, f"hpo {arguments}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts `hpo` and leaves it running; its two streams come as one."""
        return subprocess.Popen(
            [sys.executable, "-m", "hpo", *arguments],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path
