"""What was seen of one run: the values that the gates decide from."""

from dataclasses import dataclass
from datetime import datetime

from cleanup.rules.policy import Policy, ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State


@dataclass(frozen=True)
class Finding:
    """What speaks against a clear: its reason, and what was seen."""

    reason: Reason
    detail: str = ""

    @property
    def said(self) -> str:
        return f"{self.reason.sentence} {self.detail}".strip()


@dataclass(frozen=True, kw_only=True)
class Held:
    """A hold on a run until an instant.

    `sure_at`: what a doubted clock surely reached; the hold ends by that. `laid_on`, `because`: another run that may be
    this one, and why.
    """

    owner: str
    until: datetime
    reason: str
    laid_on: str = ""
    because: str = ""
    sure_at: datetime | None = None

    def lasts(self, now: datetime) -> bool:
        return self.until > (now if self.sure_at is None else min(now, self.sure_at))

    @property
    def said(self) -> str:
        own = f"by {self.owner}: {self.reason}"
        if not self.laid_on:
            return own
        return (
            f"{own} (laid on {self.laid_on}, which may be this run: {self.because}; release that hold, or say on this "
            "run's page that it is not the same run)"
        )


@dataclass(frozen=True, kw_only=True)
class ProofFacts:
    """What a comparison with the NAS showed; counts are of compared data files.

    At `checksum` every byte of both sides was read; without `findings` both equal the manifest, or the `accepted`
    bytes. `reused_from`: when read, if earlier; `found_at`: when found to differ. Nothing has changed since either.
    """

    level: ProofLevel
    findings: tuple[Finding, ...] = ()
    files: int = 0
    bytes: int = 0
    manifest_sha256: str = ""
    reused_from: datetime | None = None
    found_at: datetime | None = None
    accepted: int | None = None


@dataclass(frozen=True, kw_only=True)
class AcceptedFacts:
    """Bytes that an admin accepted; `holds`: both sides are as compared."""

    key: int
    actor: str
    at: datetime
    note: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class LargeFile:
    """One of a run's largest data files; `path` is readable and cut.

    `nas_bytes`: None if missing or not asked.
    """

    path: str
    bytes: int
    modified_at: datetime | None = None
    nas_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class TwinFacts:
    """What the NAS held when names and sizes were compared.

    Of the staged data files `missing` were absent; `more` lay on the NAS alone.
    """

    files: int
    bytes: int
    newest_at: datetime | None = None
    missing: int = 0
    other_size: int = 0
    more: int = 0


@dataclass(frozen=True, kw_only=True)
class OnlyHere:
    """Attributes, access lists and empty folders that the NAS lacks; `names`: the first few."""

    attributes: int
    access_lists: int
    folders: int
    names: tuple[str, ...]

    @property
    def words(self) -> str:
        kinds = (
            (self.attributes, "attribute", "attributes"),
            (self.access_lists, "access list", "access lists"),
            (self.folders, "empty folder", "empty folders"),
        )
        said = ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in kinds if count)
        more = ", …" if len(self.names) < self.attributes + self.access_lists + self.folders else ""
        return f"{said}: {', '.join(self.names)}{more}"


@dataclass(frozen=True, kw_only=True)
class FutureFiles:
    """Data files dated later than the look that found them.

    `digest` of sizes, mtimes and ctimes is unchanged `since`. `others_at`: the newest time of other data files.
    """

    count: int
    names: tuple[str, ...]
    newest_at: datetime
    others_at: datetime | None
    digest: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was seen of one run, and when. Bytes are logical; None means unknown.

    `fresh`: looked at for this decision, not stored by discovery. `host_findings` block every clear on this host.
    `failures`: failed attempts in a row. The schedule asks a silent twin again from `nas_retry_at`. `hold_file`: the
    text of `.exlab-hold`. `kept_from`: start of retention, if not `verified_at`. `returned`: files came back after a
    clear. `unverified`, `kept_local`: files that a record does not vouch for, or pins. `twin_findings` block at any
    proof level, `twin_unnamed` if no bytes are compared.

    For display only: `data_files`, `data_bytes`, `largest`, `twin`, `desktop_*`, `locks`.
    """

    gathered_at: datetime
    fresh: bool = False
    recorded_state: State | None = None
    ingest_state: State | None = None
    ingest_findings: tuple[Finding, ...] = ()
    verified_at: datetime | None = None
    verified_first_seen_at: datetime | None = None
    path_findings: tuple[Finding, ...] = ()
    files: int | None = None
    bytes: int | None = None
    allocated_bytes: int | None = None
    newest_data_at: datetime | None = None
    newer_files: tuple[str, ...] = ()
    newer_count: int = 0
    tree_findings: tuple[Finding, ...] = ()
    proof: ProofFacts | None = None
    other_attempt: bool = False
    host_findings: tuple[Finding, ...] = ()
    failures: int = 0
    last_failure: str = ""
    nas_retry_at: datetime | None = None
    hold_file: str | None = None
    kept_from: datetime | None = None
    returned: bool = False
    unverified: str = ""
    kept_local: str = ""
    holds: tuple[Held, ...] = ()
    budget_finding: Finding | None = None
    breaker_finding: Finding | None = None
    data_files: int | None = None
    data_bytes: int | None = None
    desktop_files: int = 0
    desktop_bytes: int = 0
    largest: tuple[LargeFile, ...] = ()
    twin: TwinFacts | None = None
    locks: int = 0
    twin_findings: tuple[Finding, ...] = ()
    twin_unnamed: str | None = None
    future: FutureFiles | None = None
    only_here: OnlyHere | None = None
    accepted: AcceptedFacts | None = None

    @property
    def accepts(self) -> bool:
        return self.accepted is not None and self.accepted.holds

    def wanted_proof(self, policy: Policy) -> ProofLevel:
        """Every byte if no record vouches for these files: that of a returned run names the cleared ones."""
        return ProofLevel.CHECKSUM if self.accepts or self.returned else policy.proof
