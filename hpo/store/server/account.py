"""The user who runs the server of a data folder."""

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import InputError, StorageError

AS_ACCOUNT = Path(__file__).with_name("as_account.py")

UNPRIVILEGED = "nobody"
"""The user who runs the server of a folder that belongs to root: PostgreSQL refuses to run as root."""

OTHERWISE = "or set HPO_STORAGE_URL to a PostgreSQL server"


@dataclass(frozen=True, slots=True)
class Account:
    """A user who runs servers. `clients` are the users who may connect to them."""

    uid: int
    gid: int
    clients: tuple[int, ...]

    @classmethod
    def of(cls, folder: Path) -> "Account":
        """Return the user who runs the server of a data folder. The folder need not exist.

        The user is the user of this process. For root, it is the owner of the folder. Raises `InputError` for
        a folder of another user.
        """
        owner = _owner(folder)
        me = os.geteuid()
        if me != 0:
            if owner not in (None, me):
                raise InputError(
                    f"HPO_HOME: {folder} belongs to {user_name(owner) or f'user {owner}'}: "
                    f"set HPO_HOME to a folder of your own, {OTHERWISE}"
                )
            return cls(me, os.getegid(), (me, 0))
        owner = owner or _owner(folder.parent)
        if owner and (user_name(owner) or (folder / "PG_VERSION").exists()):
            group = folder if _owner(folder) == owner else folder.parent
            return cls(owner, group.stat().st_gid, (owner, 0))
        try:
            entry = pwd.getpwnam(UNPRIVILEGED)
        except KeyError:
            raise InputError(
                f"HPO_HOME: root cannot run PostgreSQL, and there is no user {UNPRIVILEGED!r} to run it: "
                f"run hpo as another user, {OTHERWISE}"
            ) from None
        return cls(entry.pw_uid, entry.pw_gid, (0,))

    @property
    def is_other(self) -> bool:
        """Return whether the server runs as another user than this process."""
        return self.uid != os.geteuid()

    def command(self, folder: Path, arguments: list[str]) -> list[str]:
        """Return the command that runs a program as this user, with access to `folder`."""
        if not self.is_other:
            return arguments
        helper = [sys.executable, "-I", "-S", str(AS_ACCOUNT), str(self.uid), str(self.gid), str(folder)]
        return helper + arguments

    def give(self, file: int | Path) -> None:
        """Make this user the owner of a file or folder that this process has made."""
        if not self.is_other:
            return
        try:
            if isinstance(file, Path):
                os.chown(file, self.uid, self.gid, follow_symlinks=False)
            else:
                os.fchown(file, self.uid, self.gid)
        except OSError as error:
            # In some containers, root may not even do this.
            raise StorageError(
                f"root cannot give files to user {self.uid} ({error.strerror}): run hpo as an ordinary user, "
                f"{OTHERWISE}"
            ) from error

    def check_name(self) -> None:
        """Raise `InputError` if the user has no name, which `initdb` needs."""
        if user_name(self.uid) is None:
            raise InputError(
                f"HPO_HOME: PostgreSQL cannot make its files for user id {self.uid}, which has no name: "
                f"add a line such as 'hpo:x:{self.uid}:{self.gid}::/tmp:/bin/sh' to /etc/passwd, {OTHERWISE}"
            )

    def access_rules(self) -> tuple[str, str]:
        """Return the texts of `pg_hba.conf` and `pg_ident.conf`: the `clients` may connect as any role."""
        names = [name for uid in self.clients if (name := user_name(uid))]
        if user_name(self.clients[0]) is None:
            # The server knows local clients by name. The folder of the socket keeps others out.
            return "local all all trust\n", ""
        lines = (f'owner "{name}" all\n' for name in names)
        return "local all all peer map=owner\n", "".join(lines)


def user_name(uid: int | None) -> str | None:
    """Return the name of a user id, None if it has none."""
    try:
        return None if uid is None else pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _owner(folder: Path) -> int | None:
    try:
        return folder.stat().st_uid
    except FileNotFoundError:
        return None
