"""Whether staging and NAS are one storage. A comparison that finds nothing proves nothing."""

from collections.abc import Iterator
from itertools import product

from cleanup.storage.mounts.places import Place


def same_storage(staging: Place, nas: Place) -> str:
    """Says how two places are one storage; empty where no sign is seen."""
    for one, other in product(staging.all_beneath(), nas.all_beneath()):
        common = sorted(set(one.signs) & set(other.signs), key=_by_clarity)
        if common:
            return f"{_called(nas, other)} and {_called(staging, one)} lie on {common[0]}"
        if _one_export(one, other):
            return f"{_called(nas, other)} and {_called(staging, one)} are mounted from {other.mount.source}"
    return overlap(staging, nas)


def overlap(staging: Place, nas: Place) -> str:
    """Says how the directories of two places overlap; empty if they do not.

    No flag accepts an overlap: a run would prove itself.
    """
    for one, other in product(_directories(staging), _directories(nas)):
        if _lie_in_one_another(one, other):
            return f"{_called(nas, other)} and {_called(staging, one)} are the same directory, or one lies in the other"
    return ""


def _directories(place: Place) -> Iterator[Place]:
    yield place
    for shown in (*place.beneath, *place.shown):
        yield from _directories(shown)


def _lie_in_one_another(one: Place, other: Place) -> bool:
    if _filesystem(one) == _filesystem(other):
        return _nested(one.path, other.path)
    return _one_server(one, other) and _nested(_on_server(one), _on_server(other))


def _on_server(place: Place) -> str:
    return f"{place.remote[1]}/{place.path}" if place.remote else ""


def _filesystem(place: Place) -> str:
    # Subvolumes of one btrfs have device numbers of their own, yet share its paths.
    return next((sign for sign in place.signs if sign.startswith("the btrfs")), str(place.device))


def _one_export(one: Place, other: Place) -> bool:
    return _one_server(one, other) and _nested(*(place.remote[1] if place.remote else "" for place in (one, other)))


def _one_server(one: Place, other: Place) -> bool:
    # A share's name is no path on the server, so both must be names of one kind.
    if one.remote is None or other.remote is None:
        return False
    (hosts, path), (other_hosts, other_path) = one.remote, other.remote
    return bool(hosts & other_hosts) and path.startswith("//") == other_path.startswith("//")


def _nested(one: str, other: str) -> bool:
    shorter, longer = sorted((_parts(one), _parts(other)), key=len)
    return longer[: len(shorter)] == shorter


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _called(top: Place, place: Place) -> str:
    return top.name if place is top else f"{top.name} (by way of {place.name})"


def _by_clarity(sign: str) -> tuple[int, str]:
    # First a sign that the operator can look up; a bare number says least.
    order = ("the btrfs", "the ZFS", "the device", "the image", "the filesystem", "the block device")
    return next((place for place, start in enumerate(order) if sign.startswith(start)), len(order)), sign
