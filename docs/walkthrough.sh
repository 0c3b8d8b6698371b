#!/usr/bin/env bash
# From a staging tree to cleared runs, step by step, every count compared with one made without the program.
#
#   docs/walkthrough.sh [DIRECTORY]
#
# DIRECTORY holds a lab: staging/ and nas/. The script works on a copy of it and never touches the original. Without an
# argument it builds a small lab of eight runs. PYTHON names the interpreter (default: .venv/bin/python).
set -euo pipefail

checkout=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$checkout/.venv/bin/python}
given=${1:+$(cd "$1" && pwd)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
lab=$work/lab
mkdir "$lab"

export EXLAB_DATA_DIR=$work/data DATABASE_URL="sqlite:///$work/data/db.sqlite3"
manage() { "$python" "$checkout/manage.py" "$@"; }
say() { printf '\n== %s\n' "$*"; }

if [ -n "$given" ]; then
    say "A copy of $given, times kept"
    cp -a "$given/staging" "$given/nas" "$lab/"
else
    say "A small lab of eight runs"
    (cd "$checkout" && "$python" - "$lab" <<'PYTHON'
import sys
from pathlib import Path

from tests.tools.lab import Lab

lab = Lab(Path(sys.argv[1]))
lab.run("CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-17T14-32")
lab.run("CONFOCAL_01/PROJ-0042/Runs/Run_2026-04-18T09-10", twin_state="sync_queued")
lab.run("CONFOCAL_01/PROJ-0042/TestRuns/TestRun_2026-04-17T09-12")
lab.run("CONFOCAL_01/PROJ-0051/Runs/Run_2026-05-02T08-00", state="sync_queued")
lab.run("FLOW_01/PROJ-0042/Runs/Run_2026-04-20T11-45", state="complete")
lab.run("FLOW_01/PROJ-0060/Runs/Run_2026-05-28T16-20", files={"export/plate_00.fcs": b"\x01" * 40_000})
lab.run("FLOW_01/PROJ-0060/Runs/Run_2026-06-01T13-00", state="staging")
lab.run("PLATE_READER_02/PROJ-0007/Runs/Run_2026-03-11T07-05", files={"raw/plate.csv": b"well,value\n" * 900})
PYTHON
    )
fi

# What the program is measured against: counts and fingerprints made by this script alone.
cat >"$work/check.py" <<'PYTHON'
import hashlib
import json
import os
import sys
from pathlib import Path

lab, answers, step = Path(os.environ["LAB"]), Path(os.environ["ANSWERS"]), sys.argv[1]


def runs():
    found = {}
    for folder in sorted((lab / "staging").glob("*/*/*/*")):
        if folder.parent.name in ("Runs", "TestRuns") and folder.is_dir() and not folder.name.startswith("."):
            record = json.loads((folder / ".exlab-wizard/ingest.json").read_bytes())
            files = [path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
            found[str(folder.relative_to(lab / "staging"))] = {
                "state": record["current_state"],
                "history": len(record["history"]),
                "files": len(files),
                "bytes": sum(status.st_size for status in files),
            }
    return found


def fingerprint(top, but=()):
    """Name, mode, size, time and content of everything below a directory; `but` the records, receipts, their folders."""
    entries = {}
    for path in sorted([top, *top.rglob("*")]):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        size = status.st_size if path.is_file() else 0
        told = path.match("*/.exlab-wizard/ingest.json") or path.match("*/.exlab-wizard") or "receipts" in path.parts
        if not told or "records" not in but:
            entries[str(path.relative_to(top))] = [status.st_mode, size, status.st_mtime_ns, content]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def answer(name):
    return json.loads((answers / f"{name}.json").read_text())


def expect(what, found, wanted):
    print(f"   {what}: {found if len(str(found)) < 40 else 'as counted beforehand'}")
    if found != wanted:
        sys.exit(f"FAILED: {what}: the program says {found!r}, counted beforehand: {wanted!r}")


before_file = answers / "before.json"
if step == "before":
    counted = runs()
    before_file.write_text(json.dumps({
        "runs": counted,
        "prints": {path: fingerprint(lab / "staging" / path) for path in counted},
        "staging": fingerprint(lab / "staging"),
        "nas": fingerprint(lab / "nas", but="records"),
    }))
    verified = sum(run["state"] == "sync_verified" for run in counted.values())
    print(f"   {len(counted)} runs, {verified} of them sync_verified")
    sys.exit()

before = json.loads(before_file.read_text())
verified = {path: run for path, run in before["runs"].items() if run["state"] == "sync_verified"}
others = {path: run for path, run in before["runs"].items() if path not in verified}
total = [sum(run[name] for run in verified.values()) for name in ("files", "bytes")]

if step == "discovered":
    expect("runs found", answer("discover")["found"], len(before["runs"]))
    expect("new", answer("discover")["new"], len(before["runs"]))
    seen = {run["run_path"]: run["state"] for run in answer("evaluate")["runs"]}
    expect("states", seen, {path: run["state"] for path, run in before["runs"].items()})
    expect("history entries", answer("history"), {path: run["history"] for path, run in before["runs"].items()})
elif step == "untouched":
    expect("staging untouched", fingerprint(lab / "staging"), before["staging"])
elif step == "manual":
    expect("cleared in manual mode", answer("manual")["cleared"], 0)
elif step == "dry-run":
    swept = answer("dry-run")
    expect("would clear", sorted(run["run_path"] for run in swept["runs"] if run["action"] == "would_clear"),
           sorted(verified))
    expect("files and bytes", [swept["files"], swept["bytes_freed"]], total)
elif step == "swept":
    swept = answer("sweep")
    expect("cleared", sorted(run["run_path"] for run in swept["runs"] if run["action"] == "cleared"), sorted(verified))
    expect("files and bytes", [swept["files"], swept["bytes_freed"]], total)
    expect("failed", swept["failed"], 0)
    expect("left in staging", runs(), others)
    expect("the others byte for byte", {path: fingerprint(lab / "staging" / path) for path in others},
           {path: before["prints"][path] for path in others})
    expect("the NAS", fingerprint(lab / "nas", but="records"), before["nas"])
    twins = [json.loads((lab / "nas" / path / ".exlab-wizard/ingest.json").read_bytes()) for path in verified]
    expect("what their records on the NAS say", sorted({twin["current_state"] for twin in twins}), ["cleared"])
    leftovers = [str(path) for path in (lab / "staging").rglob(".exlab-clearing-*")]
    expect("leftovers", leftovers, [])
elif step == "again":
    expect("cleared by a second sweep", answer("again")["cleared"], 0)
    changes = answer("rediscover")
    expect("changed by a second discovery", [changes["new"], changes["updated"]], [0, 0])
    expect("found by it", changes["found"], len(others))
    expect("left in staging", runs(), others)
PYTHON
mkdir "$work/answers"
check() { LAB=$lab ANSWERS=$work/answers "$python" "$work/check.py" "$@"; }
ask() { manage "${@:2}" --json >"$work/answers/$1.json"; }

say "A new database, and the lab registered"
mkdir -m 700 "$work/data"
manage migrate -v 0
manage add_staging_root lab "$lab/staging" --nas-root "$lab/nas" --allow-same-filesystem
check before

say "Discovery: every run with its whole history"
ask discover discover
ask evaluate evaluate
manage shell -v 0 -c 'import json; from cleanup.models import Run
print(json.dumps({run.run_path: run.events.count() for run in Run.objects.all()}))' >"$work/answers/history.json"
check discovered
check untouched

say "Manual mode: a sweep clears nothing"
ask manual sweep
check manual
check untouched

say "Scheduled, 24 hours: what would go"
manage set_policy --mode scheduled --retain-hours 24
ask dry-run sweep --dry-run
check dry-run
check untouched

say "The sweep"
ask sweep sweep
check swept

say "Once more: nothing is left to do"
ask again sweep
ask rediscover discover
check again

say "The account"
manage audit --by equipment
printf '\nEvery count was right.\n'
