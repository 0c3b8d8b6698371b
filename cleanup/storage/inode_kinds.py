"""Which filesystems keep a file's inode number for as long as the file is there: a closed list, of tested kinds only.

There another number is another file. Elsewhere it may be the same file under a new number: sshfs, mergerfs and other
programs make numbers up, and a network filesystem may after it has forgotten a name.
"""

from cleanup.storage.places import Place

KEEPING = ("btrfs", "ext2", "ext3", "ext4", "tmpfs")


def keeps_inodes(place: Place) -> bool:
    """Whether a place, and every layer beneath it, is of the closed list."""
    return all(one.mount.fstype in KEEPING for one in place.all_beneath())
