"""The table of mounts that count as a NAS; docs/mounts.md repeats it."""

import enum
from typing import NamedTuple

from cleanup.rules.findings import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.mounts.caches import is_davfs
from cleanup.storage.mounts.mountinfo import Mount
from cleanup.storage.mounts.places import Place

_REASON = Reason.NAS_MOUNT_NOT_ACCEPTED


class MountKind(enum.Enum):
    """How a mount counts as a NAS."""

    LOCAL = "a plain local filesystem"
    OTHER = "another accepted filesystem"
    UNION = "a union of other directories"
    WRITES_BACK = "a mount that may hold writes back"
    UNKNOWN = "unknown"


LOCAL = (
    "bcachefs",
    "btrfs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "jfs",
    "ntfs3",
    "reiserfs",
    "tmpfs",
    "udf",
    "vfat",
    "xfs",
    "zfs",
)
OTHER = (
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.glusterfs",
    "fuse.sshfs",
    "fuseblk",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
)
UNION = (
    "aufs",
    "fuse.fuse-overlayfs",
    "fuse.mergerfs",
    "fuse.mhddfs",
    "fuse.shfs",
    "fuse.unionfs",
    "fuse.unionfs-fuse",
    "overlay",
    "unionfs",
)
WRITES_BACK = (
    "davfs",
    "fuse.blobfuse",
    "fuse.blobfuse2",
    "fuse.cosfs",
    "fuse.davfs",
    "fuse.davfs2",
    "fuse.gcsfuse",
    "fuse.geesefs",
    "fuse.google-drive-ocamlfuse",
    "fuse.goofys",
    "fuse.juicefs",
    "fuse.mountpoint-s3",
    "fuse.onedriver",
    "fuse.ossfs",
    "fuse.rclone",
    "fuse.s3fs",
    "fuse.seadrive",
)
TABLE = {MountKind.LOCAL: LOCAL, MountKind.OTHER: OTHER, MountKind.UNION: UNION, MountKind.WRITES_BACK: WRITES_BACK}
_KINDS = {fstype: kind for kind, fstypes in TABLE.items() for fstype in fstypes}


class Acceptance(NamedTuple):
    """The problem against a mount as a NAS, or a warning."""

    problem: Finding | None = None
    warning: str = ""


def kind_of(mount: Mount) -> MountKind:
    """Returns the kind of a mount by the table."""
    return MountKind.WRITES_BACK if is_davfs(mount) else _KINDS.get(mount.fstype, MountKind.UNKNOWN)


def is_plain_local(mount: Mount) -> bool:
    """Whether a mount is a listed local filesystem, which shows only its disk."""
    return kind_of(mount) is MountKind.LOCAL


def judge(nas: Place, *, allow_union: bool, writes_through: bool) -> Acceptance:
    """Judges a place and all layers beneath it by the staging root's flags."""
    warnings = []
    for place in nas.all_beneath():
        found = _judge(place, allow_union=allow_union, writes_through=writes_through)
        if found.problem is not None:
            return found
        warnings.append(found.warning)
    return Acceptance(None, next(filter(None, warnings), ""))


def _judge(place: Place, *, allow_union: bool, writes_through: bool) -> Acceptance:
    mount, kind = place.mount, kind_of(place.mount)
    called = f"{mount.mount_point} is mounted as {_name(mount)}"
    if kind is MountKind.UNION and not allow_union:
        return _refused(f"{called}, which shows several directories as one: --allow-union-nas accepts it")
    if kind is MountKind.WRITES_BACK and not writes_through:
        return _refused(f"{called}, which may hold writes back on this host: --nas-writes-through accepts it")
    if place.cache:
        return _refused(f"{called} with its cache on, {place.cache}: turn that off, no flag accepts it")
    if kind is MountKind.UNKNOWN:
        return Acceptance(
            None, f"{called}, a kind that is not known here: see that it writes what it shows to the NAS."
        )
    return Acceptance()


def _refused(detail: str) -> Acceptance:
    return Acceptance(Finding(_REASON, detail))


def _name(mount: Mount) -> str:
    return "davfs2" if is_davfs(mount) else mount.fstype.removeprefix("fuse.")
