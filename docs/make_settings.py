"""Print docs/settings.md, made from the settings that the program reads.

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

`docs/make_settings.py` makes this page from the code; a test compares the two.

A setting comes from the environment, or from the file `.env` beside manage.py. If both name it, the environment
counts. Every command reads all settings once, when it starts. The program never guesses: if a value is wrong, it says
in one sentence which setting that is and what to write, ends with status 2, and starts nothing. `manage.py check`
says the same. After a change, start the program again. Policies, staging roots and users are no settings: they live
in the database.

| setting | default | may be | means |
|---|---|---|---|
"""

TAIL = """
Blanks around a value do not count, and an empty value is the same as none. Commas stand between the items of a list;
blanks around an item do not count. Quotation marks belong into `.env` and into a shell's command line only; a value
that still has them is refused. `$NAME` in a value is not replaced.

A name that begins with `EXLAB` and is nearly that of a setting is refused: it is a slip. `manage.py check` warns of
any other such name (cleanup.W004), except those of ExLab-Wizard and of `docker/compose.yaml`.

## Paths

A relative path counts from the checkout, in which manage.py lies. It does not matter where a command is started, nor
by which user: all commands, and all processes of `up` and `worker`, work in one place. `~` is the home of the user
who starts the program. systemd and cron start it for other users, so write an absolute path there.

## Passwords in addresses

In `DATABASE_URL` and `EXLAB_EMAIL_URL`, write each of these characters of a user's name or a password as % and two
digits:

| character | `%` | `@` | `:` | `/` | `?` | `#` | `[` | `]` | blank |
|---|---|---|---|---|---|---|---|---|---|
| written | `%25` | `%40` | `%3A` | `%2F` | `%3F` | `%23` | `%5B` | `%5D` | `%20` |

So for the user `lab`, whose password is `not@real/50%#1`:

```
DATABASE_URL=postgres://lab:not%40real%2F50%25%231@db.example:5432/exlab
```

`python3 -c 'import urllib.parse; print(urllib.parse.quote(input(), safe=""))'` reads a password and prints it in this
form. The password may also stand elsewhere, as it is: in `PGPASSWORD`, or in the password file of libpq. Then leave
it out of the address. `docker/compose.yaml` does so.

## The database

`postgres://USER:PASSWORD@HOST:PORT/NAME`, with options of libpq behind a question mark, as in `?sslmode=require`.
`postgres:///NAME` is a server on this host. `sqlite:////srv/exlab/db.sqlite3` is a file, with four strokes before an
absolute path. A database in memory is refused, because each process would have another one.

## The data directory

The program tries it at every start. It says in one sentence what is wrong, with the command that mends it: the
directory cannot be written, is full, is a file or a link to nothing, or holds files of another user, as after a
command that was once typed with sudo.
"""


def lines() -> Iterator[str]:
    """The document, line by line."""
    yield from HEAD.splitlines()
    for setting in read.settings.values():
        yield f"| `{setting.name}` | {setting.default} | {setting.may_be} | {setting.means} |"
    yield from TAIL.splitlines()


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lines())
