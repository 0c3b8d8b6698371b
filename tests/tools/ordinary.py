"""An ordinary user, whom root becomes to see what that user meets."""

import functools
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults import means
from tests.storage.children import NOBODY
from tests.tools.checkout import CHECKOUT

AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
# A command's Python needs the packages, and must start children.
_TRIAL = "import django_q, psycopg, subprocess, sys; subprocess.run([sys.executable, '-m', 'django'], check=True)"


@functools.cache
def _python() -> dict[str, str]:
    path = os.pathsep.join([str(CHECKOUT), *site.getsitepackages()])
    for candidate in (sys.executable, "/usr/bin/python3"):
        env = {"PYTHONPATH": path, "PYTHON": candidate, "HOME": "/"}
        tried = [*AS_NOBODY, candidate, "-c", _TRIAL]
        tried_in = {**os.environ, **env}
        if shutil.which("setpriv") and not subprocess.run(tried, env=tried_in, cwd="/", capture_output=True).returncode:
            return env
    raise means.Unavailable("no Python that an ordinary user could run finds this program")


def python_env() -> dict[str, str]:
    """The environment for an ordinary user's Python, which is `PYTHON`.

    Raises Unavailable.
    """
    means.need_root("may be somebody else")
    return {**os.environ, **_python()}


@contextmanager
def being_nobody() -> Iterator[None]:
    """This process as an ordinary user, for a block that starts no other."""
    means.need_root("may be somebody else")
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
