"""Who gets what from every address, by role and method, with and without htmx and token.

`NEEDS` says what each address takes. An address without its line fails the first test.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db import connection, transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from django.utils.http import urlencode

from cleanup.lab import policy_versions
from cleanup.models import (
    Access,
    Alert,
    ClearBatch,
    Hold,
    Instrument,
    Orphan,
    Project,
    RootRequest,
    StagingRoot,
    Status,
    Surprise,
    Sweep,
    SweepBreaker,
    SweptRun,
)
from cleanup.monitoring import problems
from cleanup.web import urls
from tests.tools.database import sandbox
from tests.tools.rows import clear_rows, run_row

pytestmark = pytest.mark.one_engine


SAFE = ("GET", "HEAD")
FORM = ("GET", "HEAD", "POST")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
# HEAD is as slow as GET: these roles are enough to see that it has no more rights than GET.
HEADS = ("anonymous", "stranger", "operator", "west-operator")
HTMX = {"HX-Request": "true"}

# The object that an address is about, by its name in a place of the scene.
NOTHING = ""


@dataclass(frozen=True)
class Need:
    """What an address takes. `may` is a permission; `of` is its subject, seen by all who see that.

    `answers` are the statuses for those who may; `whole` needs the permission on the whole staging root; `words` are
    the parts of an address that name no object.
    """

    may: str | None
    of: str = NOTHING
    methods: tuple[str, ...] = SAFE
    answers: tuple[int, ...] = (200,)
    posted: dict[str, Any] = field(default_factory=dict)
    whole: bool = False
    # For auditors without `may`.
    audited: tuple[int, ...] = (403,)
    words: dict[str, str] = field(default_factory=dict)


LOOK, CLEAR, HOLD, GO_ON = "view_run", "clear_run", "hold_run", "go_on"
SWEEPS, POLICIES, WRITE = "view_sweep", "view_retentionpolicy", "add_retentionpolicy"
AUDIT, ROOTS = "audit", "add_stagingroot"
AUDIT = "audit"
# No permission gives it: superusers alone.
ADMINS = "admins only"
POST = ("POST",)
ASKS = (200, 302, 422)

NEEDS: dict[str, Need] = {
    "overview": Need(LOOK, audited=(302,)),
    "overview-now": Need(LOOK, answers=(200, 302)),
    "run-list": Need(LOOK),
    "run-changes": Need(LOOK, answers=(200, 204)),
    "run-detail": Need(LOOK, of="run"),
    "run-live": Need(LOOK, of="run", answers=(200, 302)),
    "run-row": Need(LOOK, of="run"),
    "receipt": Need(LOOK, of="cleared", audited=(200,)),
    # The scene holds no signed receipt; tests/web/runs/test_receipts.py covers them.
    "receipt-file": Need(LOOK, of="cleared", answers=(404,), audited=(404,)),
    "receipt-list": Need(LOOK, of="cleared", answers=(404,), audited=(404,)),
    "receipt-key": Need(LOOK, of="cleared", answers=(404,), audited=(404,)),
    "receipt-script": Need(LOOK, of="cleared", audited=(200,)),
    "answers": Need(LOOK, of="run"),
    "way-set-aside": Need("change_run", of="run", methods=FORM, answers=ASKS),
    "way-put-back": Need("change_run", of="run", methods=FORM, answers=ASKS),
    "way-look-again": Need(CLEAR, of="run", methods=FORM, answers=ASKS),
    "way-verify-again": Need(CLEAR, of="run", methods=FORM, answers=ASKS),
    "way-accept-bytes": Need("accept_bytes", of="run", methods=FORM, answers=ASKS),
    "way-withdraw-acceptance": Need("accept_bytes", of="run", methods=FORM, answers=ASKS),
    "run-verified": Need(LOOK, of="run", answers=(200, 302)),
    "way-same-run": Need("change_run", of="run", methods=FORM, answers=ASKS),
    "way-another-run": Need("change_run", of="run", methods=FORM, answers=ASKS),
    "way-not-the-same": Need(HOLD, of="run", methods=FORM, answers=ASKS),
    "clear-run": Need(CLEAR, of="run", methods=FORM, answers=ASKS),
    "clear-runs": Need(CLEAR, methods=FORM, answers=(*ASKS, 409)),
    "select-runs": Need(CLEAR, methods=POST, answers=ASKS, posted={"action": "add"}),
    "make-room": Need(CLEAR),
    "selected-runs": Need(CLEAR),
    "selected-file": Need(CLEAR),
    "hold-selected": Need(CLEAR, methods=POST, answers=ASKS),
    "release-selected": Need(CLEAR, methods=POST, answers=ASKS),
    "remind-of-selected": Need(CLEAR, methods=POST, answers=ASKS),
    "batch-list": Need(LOOK),
    "batch": Need(LOOK, of="batch"),
    "batch-progress": Need(LOOK, of="batch", answers=(200, 302)),
    "pause-batch": Need(CLEAR, of="batch", methods=POST, answers=ASKS),
    "resume-batch": Need(CLEAR, of="batch", methods=POST, answers=ASKS),
    "stop-batch": Need(CLEAR, of="batch", methods=POST, answers=ASKS),
    "hold-run": Need(HOLD, of="run", methods=FORM, answers=ASKS),
    "hold-list": Need(LOOK),
    "release-hold": Need(HOLD, of="hold", methods=POST, answers=ASKS),
    "extend-hold": Need(HOLD, of="hold", methods=FORM, answers=ASKS),
    "policy-list": Need(POLICIES),
    "policy-detail": Need(POLICIES, of="policy"),
    "change-policy": Need(WRITE, methods=FORM, answers=ASKS),
    "promote-policy": Need(WRITE, of="policy", methods=POST, answers=ASKS),
    "promote-root": Need(WRITE, of="root", methods=POST, answers=ASKS, whole=True),
    "rehearse-policy": Need(WRITE, of="policy", methods=POST, answers=ASKS),
    "sweep-list": Need(SWEEPS),
    "sweep-changes": Need(SWEEPS, answers=(200, 302)),
    "sweep-detail": Need(SWEEPS, of="sweep"),
    "dry-run": Need(CLEAR, of="root", methods=POST, answers=ASKS, posted={"root": "east"}),
    "go-on": Need(GO_ON, of="breaker", methods=FORM, answers=(*ASKS, 409), whole=True),
    "disk-alarm": Need("change_stagingroot", of="root", methods=FORM, answers=ASKS, whole=True),
    "problem-list": Need(LOOK),
    "problem-group": Need(LOOK, of="group", methods=FORM, answers=ASKS),
    "ended-problems": Need(LOOK),
    "look-again": Need(CLEAR, of="stranger", methods=POST, answers=ASKS),
    "remove-shell": Need(CLEAR, of="shell", methods=POST, answers=ASKS),
    "mark-gone": Need("change_run", of="missing", methods=FORM, answers=ASKS),
    "move-runs": Need("change_run", of="missing", methods=FORM, answers=ASKS),
    "mark-all-gone": Need("change_run", methods=FORM, answers=ASKS),
    "instrument-list": Need(LOOK),
    "instrument-card": Need(LOOK, of="instrument"),
    "audit": Need(AUDIT),
    "audit-entries": Need(AUDIT),
    "audit-table": Need(AUDIT, words={"name": "clears", "kind": "jsonl"}),
    "audit-ledger": Need(AUDIT, words={"kind": "csv"}),
    "audit-month": Need(AUDIT, words={"month": "2026-06"}),
    "past-run-list": Need(LOOK, audited=(200,)),
    "ask-nas": Need(LOOK, of="cleared", methods=POST, audited=(200,)),
    "audit-charts": Need(LOOK, audited=(200,)),
    "reconcile": Need(AUDIT),
    "guide": Need(None),
    "guide-page": Need(None, words={"page": "words"}),
    # What concerns a host's disks asks for the password first (htmx gets 200); tests/web/roots/ has more.
    "root-list": Need(ROOTS),
    "add-root": Need(ROOTS, methods=FORM, answers=(200, 302)),
    "add-nas-root": Need(ROOTS, methods=FORM, answers=(200, 302)),
    "import-wizard-config": Need(ROOTS, methods=FORM, answers=(200, 302)),
    "root-request": Need(ROOTS, of="root_request"),
    "root-detail": Need(ROOTS, of="root", methods=FORM, answers=(200, 302)),
    "move-root": Need(ROOTS, of="root", methods=POST, answers=(200, 302)),
    "retire-root": Need(ROOTS, of="root", methods=POST, answers=(200, 302)),
    "setup": Need(ADMINS),
    "setup-now": Need(ADMINS, answers=(200, 302)),
    "keep-manual": Need(ADMINS, methods=POST, answers=ASKS),
    "people": Need(ADMINS),
    "add-person": Need(ADMINS, methods=FORM, answers=ASKS),
    "person": Need(ADMINS, of="account", methods=FORM, answers=ASKS),
    # These have rules of their own, and tests of their own below or beside.
    "audit-chart": Need(None, of="chart"),
    "audit-chart-page": Need(None, of="chart"),
    "bench": Need(None, of="instrument"),
    "bench-now": Need(None, of="instrument"),
    "bench-qr": Need(None, of="instrument"),
    "notice": Need(None, of="instrument"),
    "first-admin": Need(None),
    "login": Need(None),
    "logout": Need(None),
    # Pages about the user alone, which other tests cover.
    "account": Need(None),
    "add-record-name": Need(None, methods=POST),
    "remove-record-name": Need(None, methods=POST, words={"pk": "1"}),
    "finish-reminder": Need(None, methods=POST, words={"pk": "1"}),
    "change-password": Need(None),
    "password-again": Need(None),
    "sign-out-everywhere": Need(None),
}
OPEN = {"bench", "bench-now", "bench-qr", "notice", "first-admin", "login", "logout", "account", "change-password"}
OPEN |= {"password-again", "sign-out-everywhere", "audit-chart", "audit-chart-page"}
OPEN |= {"add-record-name", "remove-record-name", "finish-reminder"}
# What lists must leave out for some users.
# Parts of such pages, which only htmx gets.
PARTS = {"overview-now", "setup-now", "sweep-changes"}
LISTS = [
    name for name, need in NEEDS.items() if not (need.of or need.words) and "GET" in need.methods and name not in OPEN
]


@dataclass(frozen=True)
class Role:
    """A user; `look` and `act` are the places of the scene with those permissions."""

    name: str
    permissions: str
    look: frozenset[str] = frozenset()
    act: frozenset[str] = frozenset()

    def has(self, permission: str) -> bool:
        return permission in PERMISSIONS[self.permissions]


FLOW, CONFOCAL, CRYO = "east FLOW_01", "east CONFOCAL_01", "west CRYOEM_K3"
EVERYWHERE = frozenset({FLOW, CONFOCAL, CRYO})
# All requests are about what belongs to this place.
TARGET = FLOW

VIEWING = {LOOK, SWEEPS, POLICIES, "view_hold"}
OPERATING = VIEWING | {CLEAR, HOLD, GO_ON}
PERMISSIONS = {
    "none": set(),
    "viewer": VIEWING,
    "operator": OPERATING,
    "admin": OPERATING | {WRITE, "change_run", "accept_bytes", "change_stagingroot", AUDIT, ROOTS, ADMINS},
    "auditor": {AUDIT},
}

ROLES = [
    Role("anonymous", "none"),
    Role("stranger", "none"),
    Role("placeless", "operator"),
    Role("viewer", "viewer", look=EVERYWHERE),
    Role("operator", "operator", look=EVERYWHERE, act=EVERYWHERE),
    Role("west-operator", "operator", look=frozenset({CRYO}), act=frozenset({CRYO})),
    Role("confocal-operator", "operator", look=frozenset({CONFOCAL}), act=frozenset({CONFOCAL})),
    Role("west-operator-who-looks-everywhere", "operator", look=EVERYWHERE, act=frozenset({CRYO})),
    Role("admin", "admin", look=EVERYWHERE, act=EVERYWHERE),
    Role("auditor", "auditor"),
]
ROLE = {role.name: role for role in ROLES}
# Each is met plainly by its two halves: who looks everywhere and acts nowhere here, or has a place elsewhere.
AT_LENGTH = ("placeless", "viewer", "west-operator")
# All users who see one instrument of a root see what belongs to the whole root.
OF_A_ROOT = {"root", "root_request", "sweep", "breaker", "group"}


def expected(need: Need, role: Role, method: str) -> tuple[int, ...]:
    if role.name == "anonymous":
        return (302,)
    if method not in need.methods:
        return (405,)
    if need.may and not role.has(need.may):
        return need.audited if role.has(AUDIT) else (403,)
    if not need.of:
        return need.answers
    places = {FLOW, CONFOCAL} if need.of in OF_A_ROOT else {TARGET}
    if not places & role.look:
        return (404,)
    acts = places <= role.act if need.whole else bool(places & role.act)
    if need.may not in VIEWING and not acts:
        return (403,)
    return need.answers


# The scene


@pytest.fixture(autouse=True)
def _counted_once(monkeypatch):
    """Query the number beside "Problems" once for each user, not for every page."""
    count, known = problems.count, {}

    def count_once(user, *given, **named):
        if user.pk not in known:
            known[user.pk] = count(user, *given, **named)
        return known[user.pk]

    monkeypatch.setattr(problems, "count", count_once)


@pytest.fixture
def scene(db, now) -> SimpleNamespace:
    east, west = (
        StagingRoot.objects.create(
            name=name, host="lab-pc", path=f"/nonexistent/{name}", token=str(uuid.uuid4()), discovered_at=now
        )
        for name in ("east", "west")
    )
    roots = {root.name: _of_a_root(root, now) for root in (east, west)}
    places = {}
    for number, place in enumerate(sorted(EVERYWHERE)):
        name, equipment = place.split()
        there = roots[name]
        places[place] = SimpleNamespace(**vars(there), **_of_an_instrument(there, equipment, number, now))
    return SimpleNamespace(places=places, people=_people(east, west))


def _of_a_root(root: StagingRoot, now) -> SimpleNamespace:
    sweep = Sweep.objects.create(
        root=root, kind="timed", outcome="done", host="lab-pc", now=now, started_at=now, ended_at=now
    )
    breaker = SweepBreaker.objects.create(root=root, sweep=sweep, kind="share", detail="too many", opened_at=now)
    asked = {"kind": "look_staging", "host": root.host, "actor": "admin", "asked": {"path": root.path}}
    root_request = RootRequest.objects.create(root=root, asked_at=now, **asked)
    group = SimpleNamespace(pk=problems.ProblemKey("stalled_run", "stalled", root.pk).slug)
    return SimpleNamespace(root=root, sweep=sweep, breaker=breaker, root_request=root_request, group=group)


def _of_an_instrument(there: SimpleNamespace, equipment: str, number: int, now) -> dict[str, Any]:
    """Everything of an instrument; `secrets` are the names in it that others may not read."""
    project = Project.objects.create(code=f"PROJ-77{number}1", title=f"Unpublished cure {number}")
    instrument = Instrument.objects.create(root=there.root, equipment=equipment)
    dates = {"here": f"2026-04-1{number}T14-32", "gone": f"2026-03-1{number}T14-32", "lost": f"2026-02-1{number}T14-32"}
    staged, gone, lost = (
        run_row(
            there.root,
            f"{equipment}/{project.code}/Runs/Run_{date}",
            first_seen_at=now - timedelta(days=20),
            project_name=project.title,
            state="cleared" if name == "gone" else "sync_verified",
            verified_at=now - timedelta(days=9),
            cleared_at=now - timedelta(days=8) if name == "gone" else None,
            files=12,
            bytes=1_200_000,
            looked_at=now,
            here=name != "gone",
            tone=Status.DONE if name == "gone" else Status.BLOCK,
            reason="" if name == "gone" else "missing_directory",
            doubts=1,
            judged=1,
        )
        for name, date in dates.items()
    )
    batch = ClearBatch.objects.create(actor="mkhan", note=f"batch-note-{number}", digest="0" * 64, created_at=now)
    attempt = clear_rows(gone, now, files=12, size=1_200_000, batch=batch, actor="mkhan", note=f"note-{number}-why")
    hold = Hold.objects.create(
        run=staged, owner="jlee", reason=f"figure-{number}-of-jlee", created_at=now, until=now + timedelta(days=2)
    )
    policy = policy_versions.add_version(
        author="admin",
        now=now,
        root=there.root,
        equipment=equipment,
        project=project.code,
        mode="scheduled",
        retain_hours=24,
        rehearsal_nights=2,
    )
    SweptRun.objects.create(
        run=staged, root=there.root, kind="timed", first=there.sweep, last=there.sweep, action="skipped", reason="held"
    )
    Surprise.objects.create(run=staged, at=now, policy_version=policy.version, reason="held", detail="")
    orphan = {"root": there.root, "first_seen_at": now, "seen_at": now, "measured_at": now, "bytes": 10, "files": 1}
    folder = f"Run_2026-01-1{number}T08-00"
    stranger = Orphan.objects.create(
        path=f"{equipment}/{project.code}/Runs/{folder}", kind="no_record", reason="ingest_unreadable", **orphan
    )
    missing = Orphan.objects.create(path=lost.run_path, kind="missing", reason="missing_directory", run=lost, **orphan)
    shell = Orphan.objects.create(path=gone.run_path, kind="shell", reason="shell_left", run=gone, **orphan)
    Alert.objects.create(
        kind="stalled_run",
        subject=f"stalled {staged.pk}",
        root=there.root,
        run=staged,
        reason="stalled",
        detail=f"{staged.run_path} has not moved on",
        since=now,
        seen_at=now,
    )
    secrets = [
        *(f"Run_{date}" for date in dates.values()),
        folder,
        project.title,
        batch.note,
        attempt.note,
        hold.reason,
        str(instrument.token),
    ]
    return {
        "chart": SimpleNamespace(name="age"),
        "account": User.objects.create_user(f"account-{number}"),
        "instrument": instrument,
        "run": staged,
        "cleared": gone,
        "batch": batch,
        "hold": hold,
        "policy": policy,
        "stranger": stranger,
        "missing": missing,
        "shell": shell,
        "secrets": secrets,
        "of_the_clear": {gone.leaf, project.title, attempt.note},
    }


def _people(east: StagingRoot, west: StagingRoot) -> dict[str, User]:
    people = {role.name: User.objects.create_user(role.name) for role in ROLES if role.name != "anonymous"}
    operating = list(Group.objects.get(name="operator").permissions.all())
    for name in ("viewer", "operator", "auditor"):
        people[name].groups.add(Group.objects.get(name=name))
    for name in ("placeless", "west-operator", "confocal-operator", "west-operator-who-looks-everywhere"):
        people[name].user_permissions.set(operating)
    people["west-operator-who-looks-everywhere"].groups.add(Group.objects.get(name="viewer"))
    Access.objects.create(user=people["west-operator"], root=west)
    Access.objects.create(user=people["west-operator-who-looks-everywhere"], root=west)
    Access.objects.create(user=people["confocal-operator"], root=east, equipment="CONFOCAL_01")
    User.objects.filter(username="admin").update(is_superuser=True, is_staff=True)
    return people


def client_of(scene: SimpleNamespace, role: Role, **options: Any) -> Client:
    client = Client(raise_request_exception=False, **options)
    if role.name != "anonymous":
        client.force_login(scene.people[role.name])
    return client


def address_of(pattern: URLPattern, need: Need, place: SimpleNamespace) -> str:
    about = getattr(place, need.of) if need.of else None
    kwargs = {}
    for name in pattern.pattern.converters:
        key = {"number": "version", "token": "token", "name": "name"}.get(name, "pk")
        kwargs[name] = need.words[name] if name in need.words else getattr(about, key)
    return reverse(str(pattern.name), kwargs=kwargs)


@contextmanager
def undone() -> Iterator[list[str]]:
    written: list[str] = []

    def watch(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        words = sql.replace('"', " ").split()
        if words[0] in ("INSERT", "UPDATE", "DELETE", "REPLACE"):
            written.append(words[1] if words[0] == "UPDATE" else words[2])
        return execute(sql, params, many, context)

    with sandbox(), connection.execute_wrapper(watch):
        yield written
        transaction.set_rollback(True)


@dataclass
class Findings:
    wrong: list[str] = field(default_factory=list)

    def check(self, holds: bool, *words: object) -> None:
        if not holds:
            self.wrong.append(" ".join(map(str, words)))


def secrets_kept_from(scene: SimpleNamespace, role: Role) -> list[str]:
    hidden = [scene.places[name] for name in EVERYWHERE - role.look]
    # What a receipt says of a clear: its run, its project, and the reason that was given.
    told = {said for place in hidden for said in place.of_the_clear} if role.has(AUDIT) else set()
    return [secret for place in hidden for secret in place.secrets if secret not in told]


def names_kept_from(scene: SimpleNamespace, role: Role) -> list[str]:
    """Instruments and projects that a page may only repeat to a user who named them; an audit names all."""
    if role.has(AUDIT):
        return []
    hidden = [scene.places[name] for name in EVERYWHERE - role.look]
    return [name for place in hidden for name in (place.instrument.equipment, place.run.project)]


def leaks(response: Any, secrets: list[str]) -> list[str]:
    text = b"".join(response) if response.streaming else response.content
    said = text.decode() + str(dict(response.headers)) + str(response.cookies)
    return [secret for secret in secrets if secret in said]


# Every address

# Who may clear a run and looks at it has it proven first, and that is noted (`runs.proving.proving_rows.ask`).
NOTED = {"run-detail", "clear-run", "clear-runs"}


def test_every_address_has_its_line():
    named = {pattern.name for pattern in urls.urlpatterns}
    assert named == set(NEEDS)


@pytest.mark.parametrize(
    "role",
    [
        pytest.param(role, marks=pytest.mark.exhaustive if role.name in AT_LENGTH else (), id=role.name)
        for role in ROLES
    ],
)
def test_each_role_gets_what_it_may(scene, role):
    client = client_of(scene, role)
    secrets = secrets_kept_from(scene, role) + names_kept_from(scene, role)
    place = scene.places[TARGET]
    found = Findings()
    for pattern in urls.urlpatterns:
        need = NEEDS[str(pattern.name)]
        if pattern.name in OPEN:
            continue
        address = address_of(pattern, need, place)
        for method in METHODS:
            if method == "HEAD" and role.name not in HEADS:
                continue
            allowed = expected(need, role, method)
            # unknown methods do not depend on htmx
            for headers in ({}, HTMX) if method in need.methods and method != "HEAD" else ({},):
                what = (role.name, method, address, "htmx" if headers else "")
                with undone() as written:
                    data = need.posted if method == "POST" else None
                    response = client.generic(method, address, headers=headers, **_body(data))
                found.check(response.status_code in allowed, *what, response.status_code, "expected", *allowed)
                leaked = leaks(response, secrets)
                found.check(not leaked, *what, "tells", *leaked)
                if response.status_code in (403, 404, 405) or role.name == "anonymous":
                    found.check(set(written) <= {"django_session"}, *what, "wrote to", *written)
                elif method in SAFE:
                    noted = {"cleanup_provingrun"} if pattern.name in NOTED and method == "GET" else set()
                    found.check(set(written) <= {"django_session", "cleanup_run"} | noted, *what, "wrote to", *written)
    assert not found.wrong, "\n".join(found.wrong)


def _body(data: dict[str, Any] | None) -> dict[str, Any]:
    if data is None:
        return {}
    return {"data": urlencode(data), "content_type": "application/x-www-form-urlencoded"}


def test_without_its_token_no_form_is_taken(scene):
    """That is checked before the user is."""
    found = Findings()
    for name in ("anonymous", "operator"):
        client = client_of(scene, ROLE[name], enforce_csrf_checks=True)
        for pattern in urls.urlpatterns:
            address = address_of(pattern, NEEDS[str(pattern.name)], scene.places[TARGET])
            for method in UNSAFE if pattern.name == "clear-run" else POST:
                with undone() as written:
                    status = client.generic(method, address).status_code
                found.check(status == 403, name, method, address, status)
                found.check(not written, name, method, address, "wrote to", *written)
    assert not found.wrong, "\n".join(found.wrong)


@pytest.mark.parametrize("name", ["placeless", "operator", "west-operator", "confocal-operator"])
def test_lists_show_what_one_may_see_and_nothing_else(scene, name):
    """Also with a filter, a search or a page number for hidden rows."""
    role = ROLE[name]
    client = client_of(scene, role)
    secrets = secrets_kept_from(scene, role)
    hidden = scene.places[TARGET]
    question = {"equipment": hidden.instrument.equipment, "root": "east", "project": hidden.run.project}
    question |= {"q": hidden.run.leaf[4:], "state": "cleared", "show": "all", "before": "999999", "page": "2"}
    found, shown = Findings(), ""
    for listed in LISTS:
        for asked in ({}, {"equipment": hidden.instrument.equipment}, question):
            with undone():
                response = client.get(reverse(listed), asked, headers=HTMX if listed in PARTS else {})
            found.check(response.status_code in (200, 204, 403, 404), listed, asked, response.status_code)
            # the typed text comes back, and reveals nothing new
            typed = asked.get("q", "-")
            kept = secrets if asked else secrets + names_kept_from(scene, role)
            telling = [secret for secret in leaks(response, kept) if typed == "-" or typed not in secret]
            found.check(not telling, name, listed, asked, "tells", *telling)
            shown += response.content.decode() if not asked else ""
    for place in role.look:
        found.check(scene.places[place].run.leaf in shown, role.name, "does not see", place)
    assert not found.wrong, "\n".join(found.wrong)


@pytest.mark.parametrize(
    "name", ["placeless", "west-operator", "confocal-operator", "west-operator-who-looks-everywhere"]
)
def test_nothing_is_smuggled_in_by_its_key(scene, name):
    """Names in a form or address are searched only among what the user may see, or clear."""
    role = ROLE[name]
    client = client_of(scene, role)
    secrets = secrets_kept_from(scene, role)
    hidden = scene.places[TARGET]
    key = hidden.run.pk
    found = Findings()
    requests = [
        ("POST", reverse("select-runs"), {"action": "add", "run": key}),
        ("POST", reverse("select-runs"), {"action": "all", "equipment": "FLOW_01"}),
        ("GET", reverse("run-list"), {"selected": key}),
        ("GET", reverse("clear-runs"), {"runs": key, "run": key}),
        ("GET", reverse("clear-runs"), {"root": "east"}),
        ("POST", reverse("clear-runs"), {"runs": f"{key} {hidden.cleared.pk}", "digest": "0" * 64, "typed": 2}),
        ("POST", reverse("dry-run"), {"root": "east"}),
        ("GET", reverse("run-changes"), {"seen": f"{key}.0,{hidden.cleared.pk}.9", "equipment": "FLOW_01"}),
        ("GET", reverse("change-policy"), {"root": "east", "equipment": "FLOW_01", "project": hidden.run.project}),
        ("GET", reverse("sweep-list"), {"root": "east", "before": 99_999}),
        ("GET", reverse("answers", args=[key]), {"at": "2026-06-15"}),
        ("GET", reverse("instrument-card", args=[hidden.instrument.pk]), {}),
    ]
    for headers in ({}, HTMX):
        for method, address, data in requests:
            with undone() as written:
                send = client.get if method == "GET" else client.post
                response = send(address, data, headers=headers)
                picked = client.session.get("selection", [])
            what = (name, method, address, data, "htmx" if headers else "")
            found.check(response.status_code < 500, *what, response.status_code)
            found.check(not leaks(response, secrets), *what, "tells", *leaks(response, secrets))
            found.check(str(key) not in str(picked), *what, "picked", picked)
            may_dry_run = "root" in data and method == "POST" and name == "confocal-operator"
            harmless = {"django_session", "cleanup_run"} | (
                {"django_q_ormq", "cleanup_sweep"} if may_dry_run else set()
            )
            found.check(set(written) <= harmless, *what, "wrote to", *written)
    assert not found.wrong, "\n".join(found.wrong)


# The pages with rules of their own


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_bench(scene, role):
    client = client_of(scene, role)
    found = Findings()
    for public in (False, True):
        instrument = scene.places[TARGET].instrument
        Instrument.objects.filter(pk=instrument.pk).update(public=public)
        sees = public or TARGET in role.look
        seen = 200 if sees else 302 if role.name == "anonymous" else 404
        for name in ("bench", "bench-now", "bench-qr"):
            address = reverse(name, args=[instrument.token])
            for method in METHODS:
                for headers in ({}, HTMX) if method == "GET" else ({},):
                    with undone() as written:
                        response = client.generic(method, address, headers=headers)
                    allowed = 302 if sees and name == "bench-now" and not headers else seen
                    wanted = allowed if method in SAFE else 405
                    found.check(response.status_code == wanted, public, method, address, response.status_code, wanted)
                    found.check(set(written) <= {"django_session", "cleanup_run"}, method, address, *written)
                    if not public:
                        told = [
                            secret for secret in leaks(response, secrets_kept_from(scene, role)) if "-" not in secret
                        ]
                        found.check(not told, address, *told)
    assert not found.wrong, "\n".join(found.wrong)


def test_signing_in_and_out(scene):
    for name in ("anonymous", "placeless", "operator"):
        anonymous = name == "anonymous"
        for method in METHODS:
            signing_in = client_of(scene, ROLE[name]).generic(method, "/login/").status_code
            known = method in ("GET", "HEAD", "POST", "PUT") or (method == "OPTIONS" and anonymous)
            assert signing_in == (302 if not anonymous else 200 if known else 405), (name, method)
            signing_out = client_of(scene, ROLE[name]).generic(method, "/logout/").status_code
            assert signing_out == (302 if anonymous else {"POST": 302, "OPTIONS": 200}.get(method, 405)), (name, method)


# The admin


def addresses_of_the_admin() -> list[str]:
    def walk(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[str]:
        for pattern in patterns:
            route = str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, prefix + route)
            elif pattern.name:
                yield prefix + route

    filled = []
    for route in walk(admin.site.get_urls(), "/admin/"):
        for part in ("<path:object_id>", "<int:content_type_id>", "<id>", "<path:id>"):
            route = route.replace(part, "1")
        filled.append(route if not route.startswith("/admin/^") else "/admin/cleanup/")
    return filled


@pytest.mark.parametrize("name", ["anonymous", "viewer", "operator"])
def test_the_admin_is_closed_to_all_others(scene, name):
    addresses = addresses_of_the_admin()
    assert len(addresses) > 100
    client = client_of(scene, ROLE[name])
    secrets = [secret for place in scene.places.values() for secret in place.secrets]
    found = Findings()
    for address in addresses:
        if address in ("/admin/login/", "/admin/logout/"):
            continue
        for method in FORM if name == "operator" else ("GET",):
            with undone() as written:
                response = client.generic(method, address)
            found.check(response.status_code == 302, name, method, address, response.status_code)
            found.check("/login/?next=" in getattr(response, "url", ""), name, method, address)
            found.check(not leaks(response, secrets), name, method, address)
            found.check(set(written) <= {"django_session"}, name, method, address, *written)
    assert not found.wrong, "\n".join(found.wrong)


@pytest.mark.parametrize("name", ["confocal-operator", "placeless"])
def test_staff_see_in_the_admin_what_they_may_see_elsewhere(scene, name):
    role = ROLE[name]
    User.objects.filter(username=name).update(is_staff=True)
    client = client_of(scene, role)
    secrets = secrets_kept_from(scene, role)
    found, shown = Findings(), ""
    for model in admin.site._registry:
        if model._meta.app_label != "cleanup":
            continue
        listed = client.get(reverse(f"admin:cleanup_{model._meta.model_name}_changelist"))
        found.check(listed.status_code in (200, 403), model, listed.status_code)
        found.check(not leaks(listed, secrets), model, *leaks(listed, secrets))
        shown += listed.content.decode()
        for row in model._default_manager.all():
            changed = client.get(reverse(f"admin:cleanup_{model._meta.model_name}_change", args=[row.pk]))
            found.check(changed.status_code in (200, 302, 403), model, row.pk, changed.status_code)
            told = [secret for secret in leaks(changed, secrets) if secret not in str(row.pk)]
            found.check(not told, model, row, *told)
    for place in role.look:
        found.check(scene.places[place].run.leaf in shown, "does not see", place)
    assert not found.wrong, "\n".join(found.wrong)
