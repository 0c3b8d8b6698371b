"""Print docs/settings.md, or with --readme the README's table, made from the settings that the program reads.

.venv/bin/python docs/make_settings.py > docs/settings.md
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("EXLAB_SECRET_KEY", "so that none is made and kept by this")

from exlab.settings import read

HEAD = """# Settings

Made from the code by `docs/make_settings.py`; a test compares them.

A setting comes from the environment, or from the file `.env` beside manage.py; where both name it, the environment's
counts. Every command reads all of them once, when it starts. What cannot be meant is never guessed: the program says
in one sentence which setting is wrong and what to write, ends with status 2, and starts nothing. `manage.py check`
says the same.

| setting | may be | default |
|---|---|---|
"""

TAIL = """
Blanks around a value are taken away, and empty is the same as not set. Of lists the items stand between commas;
blanks around them do not count. Quotation marks belong into `.env` and a shell's command line alone; a value that
still has them is refused. Nothing is put in for `$NAME`.

A name that begins with `EXLAB` and is nearly that of a setting is refused, because it is a slip. Any other such name
is a warning of `manage.py check` (cleanup.W004), but for those of ExLab-Wizard and of `docker/compose.yaml`.

## Paths

A relative path counts from the checkout, in which manage.py lies, wherever a command is started and by whom: all
commands, and all processes of `up` and `worker`, work in one place. `~` is the home of the user who starts the
program. As systemd and cron start it for other users, an absolute path is the best.

## Passwords in addresses

In `DATABASE_URL` and `EXLAB_EMAIL_URL`, each of these characters of a user's name or a password is written as % and
two digits:

| character | `%` | `@` | `:` | `/` | `?` | `#` | `[` | `]` | blank |
|---|---|---|---|---|---|---|---|---|---|
| written | `%25` | `%40` | `%3A` | `%2F` | `%3F` | `%23` | `%5B` | `%5D` | `%20` |

So for the user `lab`, whose password is `not@real/50%#1`:

```
DATABASE_URL=postgres://lab:not%40real%2F50%25%231@db.example:5432/exlab
```

`python3 -c 'import urllib.parse; print(urllib.parse.quote(input(), safe=""))'` writes in this form the password that is
typed then. Where the password stands elsewhere, as in a `PGPASSWORD` or in libpq's password file, it is left out of the
address and stands there as it is. `docker/compose.yaml` does so.

## The database

`postgres://USER:PASSWORD@HOST:PORT/NAME`, with options of libpq behind a question mark, as in `?sslmode=require`;
`postgres:///NAME` is a server of this host. `sqlite:////srv/exlab/db.sqlite3` is a file, with four strokes before an
absolute path; each process would have another database in memory, so that is refused.

## The data directory

It is tried at every start. One that cannot be written, is full, is a file, or a link to nothing, and one in which
files belong to another user, as after a command that was once typed with sudo, are each told in one sentence with the
command that mends it.
"""


def lines() -> Iterator[str]:
    """The document, line by line."""
    yield from HEAD.splitlines()
    for setting in read.settings.values():
        yield f"| `{setting.name}` | {setting.may_be} | {setting.default} |"
    yield from TAIL.splitlines()


def readme_rows() -> Iterator[str]:
    """The rows of the README's table."""
    for setting in read.settings.values():
        yield f"| `{setting.name}` | {setting.default} | {setting.means} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in (readme_rows() if "--readme" in sys.argv else lines()))
