"""Every file is in one task, and all names of an inode are in the same."""

import random

import pytest

from cleanup.storage.staging import removal_tasks
from cleanup.storage.staging.run_tree import Entry

pytestmark = pytest.mark.one_engine(by="function")


def file(path: str, ino: int, nlink: int = 1) -> Entry:
    return Entry(path.encode(), True, ino, nlink, 1, 0, 0, 0)


def run_of(rng: random.Random) -> list[Entry]:
    """A flat folder, many small ones, and names that share inodes, in the order of a scan."""
    files = [file(f"flat/{number}", number) for number in range(700)]
    files += [file(f"many/{number // 2}/{number}", 1_000 + number) for number in range(900)]
    shared = [f"{rng.choice(['flat', 'many/3', 'links'])}/link-{number}" for number in range(800)]
    files += [file(path, 5_000 + number // 2, nlink=2) for number, path in enumerate(shared)]
    files += [file(f"links/all-of-one-{number}", 9_000, nlink=300) for number in range(300)]
    by_folder: dict[bytes, list[Entry]] = {}
    for entry in files:
        by_folder.setdefault(removal_tasks.folder_of(entry), []).append(entry)
    return [entry for entries in by_folder.values() for entry in sorted(entries)]


@pytest.mark.parametrize("settle_links", [False, True])
def test_every_file_is_in_one_task_of_some_size(settle_links: bool) -> None:
    files = run_of(random.Random(11))
    tasks = list(removal_tasks.tasks_of(iter(files), settle_links=settle_links))
    entries = [entry for task in tasks for _, batch in task for entry in batch]
    assert sorted(entries) == sorted(files)
    assert all(removal_tasks.folder_of(entry) == path for task in tasks for path, batch in task for entry in batch)
    sizes = [sum(len(batch) for _, batch in task) for task in tasks]
    most = removal_tasks.TASK_FILES + (300 if settle_links else removal_tasks.TASK_FILES)
    assert max(sizes) <= most
    assert len(tasks) <= 2 * len(files) / removal_tasks.TASK_FILES + 2
    flat = {number for number, task in enumerate(tasks) if any(path == b"flat" for path, _ in task)}
    assert len(flat) > 2, "a flat folder is not split"
    if settle_links:
        places: dict[int, set[int]] = {}
        for number, task in enumerate(tasks):
            for _, batch in task:
                for entry in batch:
                    places.setdefault(entry.ino, set()).add(number)
        assert all(len(found) == 1 for found in places.values())
    else:
        assert entries == files, "one remover keeps the order of the plan"
