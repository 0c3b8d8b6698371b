"""Writes versions of policies: each follows the one before of its scope, and none is ever changed."""

from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from cleanup.models import RetentionPolicy, RootNote, Run, StagingRoot
from cleanup.rules.policies.approval import approve_all, approved_of
from cleanup.rules.policies.fields import NAMES
from cleanup.rules.policies.policy import ScopedPolicy, Stage
from cleanup.rules.policies.versions import stage_of_next, values_besides

# The next version carries these over.
_CARRIED = (*NAMES, "rehearsal_nights")
# Only these change how a run stands for an operator.
_FOR_OPERATORS = ("proof", "only_here")


class Superseded(Exception):
    """Another version was written meanwhile."""


def add_version(
    *,
    root: StagingRoot | None = None,
    author: str,
    now: datetime,
    rehearse: bool | None = None,
    stage: Stage | None = None,
    note: str = "",
    **fields: Any,  # noqa: ANN401
) -> RetentionPolicy:
    """Write a new version of one scope; unnamed fields are carried over.

    `rehearse` None: as before, at first yes. Raises ValidationError, or IntegrityError if the number is taken; then
    nothing is stored.
    """
    scope = {name: fields.pop(name, "") or "" for name in ("equipment", "project", "run_kind")}
    with transaction.atomic():
        # The number first, then what is carried over: a version that is written in between has taken the number.
        newest = RetentionPolicy.objects.newest_version()
        before = RetentionPolicy.objects.newest_of(root=root, **scope)
        policy = _draft(
            before,
            version=newest + 1,
            root=root,
            author=author,
            now=now,
            rehearse=rehearse,
            stage=stage,
            note=note,
            **scope,
            **fields,
        )
        policy.save()
        if any(getattr(policy, name) != (getattr(before, name) if before else "") for name in _FOR_OPERATORS):
            named = {name: value for name, value in scope.items() if value}
            Run.objects.staged().filter(**named, **({"root": root} if root else {})).doubt()
    return policy


def replace_version(*, expected: int | None, **version: Any) -> RetentionPolicy:  # noqa: ANN401
    """As `add_version`, only after version `expected`; 0: none yet, None: any.

    Raises Superseded if another was written; then nothing is stored.
    """
    scope = {name: version.get(name) or "" for name in ("equipment", "project", "run_kind")}
    try:
        with transaction.atomic():
            # Numbers are unique and without gaps: if the next one is ours, no other was written in between.
            newest = RetentionPolicy.objects.newest_version()
            before = RetentionPolicy.objects.newest_of(root=version.get("root"), **scope)
            if expected is not None and expected != (before.version if before else 0):
                said = f"was followed by version {before.version}" if before else "is none of this scope"
                raise Superseded(f"version {expected} {said}")
            written = add_version(**version)
            if expected is not None and written.version != newest + 1:
                raise Superseded(f"version {written.version - 1} was written meanwhile")
    except IntegrityError as error:
        raise Superseded("another version was written at the same moment") from error
    return written


def draft(
    before: RetentionPolicy | None,
    *,
    root: StagingRoot | None,
    author: str,
    now: datetime,
    rehearse: bool | None,
    note: str = "",
    **fields: Any,  # noqa: ANN401
) -> RetentionPolicy:
    """Return the version that `add_version` would write after `before`, not saved. Raises ValidationError."""
    version = RetentionPolicy.objects.newest_version() + 1
    return _draft(before, version=version, root=root, author=author, now=now, rehearse=rehearse, note=note, **fields)


def _draft(
    before: RetentionPolicy | None,
    *,
    root: StagingRoot | None,
    now: datetime,
    rehearse: bool | None,
    stage: Stage | None = None,
    **fields: Any,  # noqa: ANN401
) -> RetentionPolicy:
    carried = {name: getattr(before, name) for name in _CARRIED} if before else {}
    policy = RetentionPolicy(root=root, created_at=now, rehearsal=stage or Stage.OFF, **{**carried, **fields})
    # Only the database can tell at the write whether the number is free.
    policy.full_clean(exclude={"version"})
    if stage is None:
        policy.rehearsal = _stage_after(before, policy.as_value(), rehearse=rehearse)
    return policy


def _stage_after(before: RetentionPolicy | None, after: ScopedPolicy, *, rehearse: bool | None) -> Stage:
    chains = RetentionPolicy.objects.chains()
    chain = chains.get(after.scope, [])
    return stage_of_next(
        before.as_value() if before else None,
        after,
        rehearse=rehearse,
        approved=approved_of(chain),
        wider=values_besides(approve_all(chains, RootNote.objects.first_nights()), after.scope),
    )
