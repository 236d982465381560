"""A data folder of PostgreSQL: create the folder, and start a server on it."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import HpoError, InputError, StorageError
from hpo.settings import child_environment
from hpo.store.server.account import Account
from hpo.store.server.address import PORT, lock_file, socket_file
from hpo.store.server.postmaster import PidFile
from hpo.store.server.programs import Programs, programs

INITDB = (
    "--username=postgres",
    "--encoding=UTF8",
    # PostgreSQL's own locale: the locales of the operating system need not be installed.
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth-local=peer",
    "--auth-host=reject",
    "--no-instructions",
)

CONFIGURATION = """\
# Written by hpo at each start of the server.
include 'postgresql.conf'
# A folder that was created with another locale works even if that locale is not installed.
lc_messages = 'C'
lc_monetary = 'C'
lc_numeric = 'C'
lc_time = 'C'
"""

REASON = re.compile(r"^(?:initdb: error|.*\b(?:FATAL|PANIC)): +(.*)$")


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that this process started on a data folder. `begin`: bytes of the log before the start."""

    folder: Path
    process: subprocess.Popen[bytes]
    begin: int

    @property
    def log(self) -> Path:
        """Return the path of the server's log."""
        return self.folder / "log"

    @property
    def is_ready(self) -> bool:
        """Return whether the server accepts connections. Raises `StorageError` if it has ended."""
        status = PidFile.read(self.folder)
        if status is not None and status.pid == self.process.pid and status.is_ready:
            return True
        if self.process.poll() is not None:
            reason = reason_in(self.new_log())
            raise StorageError(
                f"cannot start the PostgreSQL in {self.folder}: {reason}; its log is {self.log}"
            )
        return False

    def new_log(self) -> list[str]:
        """Return the lines that the server has written since its start."""
        with self.log.open("rb") as file:
            file.seek(self.begin)
            return file.read().decode(errors="replace").splitlines()


@dataclass(frozen=True, slots=True)
class Cluster:
    """A data folder, the programs for its version, and the user who runs them."""

    folder: Path
    programs: Programs
    account: Account

    @classmethod
    def of(cls, folder: Path) -> "Cluster":
        """Return the cluster in `folder`. The folder need not exist: see `create`. Raises `InputError`."""
        account = Account.of(folder)
        version = folder / "PG_VERSION"
        return cls(folder, programs(version.read_text().strip() if version.exists() else None), account)

    @property
    def exists(self) -> bool:
        """Return whether the data folder has been made."""
        return (self.folder / "PG_VERSION").exists()

    def check(self) -> None:
        """Raise `InputError` if the data folder is missing and cannot be made."""
        if self.exists:
            return
        self.account.check_name()
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise InputError(f"HPO_HOME: {self.folder} is not empty, and is no data folder of PostgreSQL")

    def create(self, *inherited: int) -> None:
        """Create the data folder completely or not at all. `initdb` keeps the `inherited` files open."""
        self.check()
        new = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)  # left by a process that was killed here
        new.mkdir(mode=0o700)
        try:
            self.account.give(new)
            self._initdb(new, inherited)
        except HpoError:
            shutil.rmtree(new, ignore_errors=True)
            raise
        new.rename(self.folder)

    def _initdb(self, new: Path, inherited: tuple[int, ...]) -> None:
        done = subprocess.run(
            self.account.command(new, [self.programs["initdb"], "-D", str(new), *INITDB]),
            env=_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=inherited,
            check=False,
        )
        if done.returncode != 0:
            reason = reason_in(done.stdout.decode(errors="replace").splitlines())
            raise StorageError(f"cannot make the data folder {self.folder}: {reason}")

    def start(self, settings: Mapping[str, str], *inherited: int) -> ServerProcess:
        """Start a server with `settings`. The server keeps the `inherited` files open.

        The caller has made sure that no server of this folder runs. `settings` take precedence over
        `postgresql.conf`. See `socket_settings` for a server that only its owner can reach.
        """
        self._adopt()
        arguments = [self.programs["postgres"], "-D", str(self.folder)]
        self._write("hpo.conf", CONFIGURATION)
        for name, value in {"config_file": str(self.folder / "hpo.conf"), **settings}.items():
            arguments += ["-c", f"{name}={value}"]
        with open(self.folder / "log", "ab", opener=_open_own) as output:  # Path.open takes no opener
            self.account.give(output.fileno())
            begin = output.tell()
            process = subprocess.Popen(
                self.account.command(self.folder, arguments),
                env=_environment(**self._stale_pid()),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=inherited,
                start_new_session=True,  # Ctrl-C in the terminal is not for the server
            )
            return ServerProcess(self.folder, process, begin)

    def socket_settings(self, socket_folder: Path) -> dict[str, str]:
        """Return the settings of a server that listens in a private folder only, for the owner only."""
        for stale in (socket_file(socket_folder), lock_file(socket_folder)):
            stale.unlink(missing_ok=True)
        rules, names = self.account.access_rules()
        self._write("hpo_hba.conf", rules)
        self._write("hpo_ident.conf", names)
        quoted = str(socket_folder).replace('"', '""')
        return {
            "listen_addresses": "",
            "unix_socket_directories": f'"{quoted}"',
            "unix_socket_permissions": "0700",
            "port": str(PORT),
            "hba_file": str(self.folder / "hpo_hba.conf"),
            "ident_file": str(self.folder / "hpo_ident.conf"),
        }

    def _adopt(self) -> None:
        """Give the files to the user who runs the server, if root has copied them without their owner."""
        if not self.account.is_other or self.folder.stat().st_uid == self.account.uid:
            return
        for parent, folders, files in os.walk(self.folder):
            for name in (*folders, *files):
                self.account.give(Path(parent, name))
        self.account.give(self.folder)

    def _write(self, name: str, text: str) -> None:
        """Write a new file in the data folder. An old file could be a link that leads out of the folder."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        with open(path, "x", opener=_open_own) as file:
            self.account.give(file.fileno())
            file.write(text)

    def _stale_pid(self) -> dict[str, str]:
        """Return the variable that makes PostgreSQL ignore the PID of a dead server.

        After a crash another process may have this PID, and PostgreSQL would take that process for the
        server. PostgreSQL ignores the PID in this variable, which is meant for the parent of its parent. It
        still checks whether processes of a server share its memory.
        """
        stale = PidFile.read(self.folder)
        return {} if stale is None else {"PG_GRANDPARENT_PID": str(stale.pid)}


def reason_in(log: list[str]) -> str:
    """Return the line of a program's output that says why the program ended."""
    reasons = [match[1] for line in log if (match := REASON.match(line))]
    lines = reasons or [line for line in log if line.strip()] or ["it wrote nothing"]
    return lines[-1].strip()


def _environment(**changes: str) -> dict[str, str]:
    """Return the environment of a PostgreSQL program, without the user's locale and libpq settings."""
    inherited = {
        name: value
        for name, value in child_environment().items()
        if not name.startswith(("PG", "LC_", "LANG", "HPO_"))
    }
    return {**inherited, "LC_ALL": "C", **changes}


def _open_own(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
