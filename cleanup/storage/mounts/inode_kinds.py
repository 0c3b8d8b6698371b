"""Filesystems where another inode number means another file: a closed list of tested kinds."""

from cleanup.storage.mounts.places import Place

# Not on it: sshfs and mergerfs invent numbers, network filesystems may forget them.
KEEPING = ("btrfs", "ext2", "ext3", "ext4", "tmpfs")


def keeps_inodes(place: Place) -> bool:
    """Whether a place and every layer beneath are on the list."""
    return all(one.mount.fstype in KEEPING for one in place.all_beneath())
