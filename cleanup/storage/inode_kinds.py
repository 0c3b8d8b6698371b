"""Which filesystems keep a file's inode number as long as the file is there: a closed list of tested kinds.

There another number is another file. Elsewhere it may be the same one: sshfs and mergerfs make numbers up, and network
filesystems may forget them.
"""

from cleanup.storage.places import Place

KEEPING = ("btrfs", "ext2", "ext3", "ext4", "tmpfs")


def keeps_inodes(place: Place) -> bool:
    """Whether a place, and every layer beneath it, is of the closed list."""
    return all(one.mount.fstype in KEEPING for one in place.all_beneath())
