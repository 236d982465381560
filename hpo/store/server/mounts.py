"""The file system that a path is on."""

import re
from collections.abc import Iterator
from pathlib import Path

from hpo.errors import InputError

MOUNTS = Path("/proc/self/mounts")

NETWORK = {
    *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "9p", "afs", "coda", "davfs"),
    *("ceph", "lustre", "gpfs", "mmfs", "beegfs", "glusterfs", "orangefs", "pvfs2", "panfs", "ocfs2", "gfs2"),
    *("acfs", "wekafs", "quobyte", "moosefs", "juicefs", "drvfs"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.cephfs", "fuse.juicefs", "fuse.mfs", "fuse.quobyte"),
    *("fuse.s3fs", "fuse.goofys", "fuse.gcsfuse", "fuse.mount-s3", "fuse.mountpoint-s3", "fuse.blobfuse2"),
    *("fuse.blobfuse", "fuse.rclone", "fuse.davfs2", "fuse.smbnetfs", "fuse.curlftpfs", "fuse.nfs"),
    *("fuse.seaweedfs", "fuse.weed", "fuse.lizardfs", "fuse.beegfs", "fuse.dbfs"),
}
"""Types of file systems that several kernels may write, as `/proc/self/mounts` names them."""


def file_system(path: Path, mounts: str) -> str | None:
    """Return the type of the file system of an absolute path, given the text of `/proc/self/mounts`."""
    kind = None
    longest = -1
    for point, candidate in _entries(mounts):
        depth = len(point.parts)
        # Of two mounts on one point, the later one hides the earlier one.
        if depth >= longest and path.is_relative_to(point):
            kind, longest = candidate, depth
    return kind


def refuse_network(folder: Path, mounts: Path = MOUNTS) -> None:
    """Raise `InputError` if `folder` is on a network file system.

    File locks are not reliable there: two machines could run servers on one data folder. Without a list of
    mounts, nothing is checked.
    """
    try:
        text = mounts.read_text(errors="surrogateescape")
    except OSError:
        return
    kind = file_system(folder.resolve(), text)
    if kind in NETWORK:
        raise InputError(
            f"HPO_HOME: {folder} is on a network file system ({kind}), where two machines could run "
            "servers on the same files: set HPO_HOME to a folder on a local disk, "
            "or HPO_STORAGE_URL to a PostgreSQL server"
        )


def _entries(mounts: str) -> Iterator[tuple[Path, str]]:
    """Yield mount points and types of file systems. The kernel writes blanks in paths as octal numbers."""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) >= 3:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
            yield Path(point), fields[2]
