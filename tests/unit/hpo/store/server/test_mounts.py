"""The type of the file system of a path."""

from pathlib import Path

import pytest

from hpo.errors import InputError
from hpo.store.server.mounts import file_system, refuse_network

MOUNTS = """\
proc /proc proc rw,nosuid 0 0
/dev/vda / ext4 rw,relatime 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
tmpfs /home/local tmpfs rw 0 0
systemd-1 /net autofs rw 0 0
//nas/share /net cifs rw 0 0
overlay /over overlay rw 0 0
server:/b /with\\040space\\011tab nfs rw 0 0
/dev/vdb /srv ext4 rw 0 0
me@host:/x /srv/far fuse.sshfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/hpo", "ext4"),
        ("/", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/.local/share/hpo", "nfs4"),
        ("/home/local/me", "tmpfs"),
        ("/homes/me", "ext4"),  # begins like the mount point, and is another folder
        ("/net/me", "cifs"),  # mounted over the automounter
        ("/over/hpo", "overlay"),
        ("/with space\ttab/hpo", "nfs"),
        ("/srv/far/hpo", "fuse.sshfs"),
        ("/srv/near/hpo", "ext4"),
    ],
)
def test_the_deepest_mount_point_counts(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_nothing_is_known_without_mounts() -> None:
    assert file_system(Path("/home"), "") is None


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "ceph", "fuse.sshfs", "beegfs"]
)
def test_network_file_system_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/a {tmp_path} {kind} rw 0 0\n")
    with pytest.raises(InputError) as caught:
        refuse_network(tmp_path / "home" / "postgres", mounts)
    message = str(caught.value)
    assert message.startswith(f"HPO_HOME: {tmp_path}/home/postgres is on a network file system ({kind})")
    assert "local disk" in message
    assert "HPO_STORAGE_URL" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "virtiofs", "fuse.fuse-overlayfs"]
)
def test_local_file_system_is_accepted(kind: str, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"source {tmp_path} {kind} rw 0 0\n")
    refuse_network(tmp_path / "postgres", mounts)


def test_a_link_to_a_network_file_system_is_followed(tmp_path: Path) -> None:
    mounts, link = tmp_path / "mounts", tmp_path / "link"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/a {tmp_path}/far nfs rw 0 0\n")
    link.symlink_to(tmp_path / "far")
    with pytest.raises(InputError, match="network file system"):
        refuse_network(link / "postgres", mounts)


def test_system_without_a_list_of_mounts_is_not_checked(tmp_path: Path) -> None:
    refuse_network(tmp_path, tmp_path / "nowhere")
