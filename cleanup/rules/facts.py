"""What was seen of one run: the gates decide from it."""

from dataclasses import dataclass
from datetime import datetime

from cleanup.rules.findings import Finding as Finding
from cleanup.rules.findings import Objected as Objected
from cleanup.rules.policies.policy import Policy, ProofLevel
from cleanup.rules.states import State


@dataclass(frozen=True, kw_only=True)
class Held:
    """A hold on a run."""

    owner: str
    until: datetime
    reason: str
    laid_on: str = ""  # another run that may be this one, by its path; else empty
    because: str = ""  # why it may be this one
    sure_at: datetime | None = None  # surely reached by a doubted clock: the hold ends by this

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
    """What a comparison with the NAS showed; nothing has changed since.

    At `checksum` every byte of both sides was read; without `findings` both equal the manifest or the accepted bytes.
    """

    level: ProofLevel
    findings: tuple[Finding, ...] = ()
    files: int = 0  # data files that were compared, as `bytes`
    bytes: int = 0
    manifest_sha256: str = ""
    reused_from: datetime | None = None  # when the bytes were read, if earlier
    found_at: datetime | None = None  # when bytes were found to differ
    accepted: int | None = None  # key of the accepted bytes


@dataclass(frozen=True, kw_only=True)
class AcceptedFacts:
    """Bytes that an admin accepted for a run."""

    key: int
    actor: str
    at: datetime
    note: str
    holds: bool  # both sides are still as they were compared


@dataclass(frozen=True, kw_only=True)
class LargeFile:
    """One of a run's largest data files."""

    path: str  # readable and cut
    bytes: int
    modified_at: datetime | None = None
    nas_bytes: int | None = None  # None: missing or not asked


@dataclass(frozen=True, kw_only=True)
class TwinFacts:
    """What the NAS held when names and sizes were compared."""

    files: int
    bytes: int
    newest_at: datetime | None = None
    missing: int = 0  # staged data files that were not there
    other_size: int = 0
    more: int = 0  # files on the NAS alone


@dataclass(frozen=True, kw_only=True)
class OnlyHere:
    """What the NAS lacks besides bytes; `names`: the first few."""

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
    """Data files dated later than the look that found them."""

    count: int
    names: tuple[str, ...]
    newest_at: datetime
    others_at: datetime | None  # newest time of the other data files
    digest: str  # of sizes, mtimes and ctimes: unchanged `since`
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was seen of one run, and when. Bytes are logical; None: unknown."""

    gathered_at: datetime
    fresh: bool = False  # looked at for this decision, not stored by discovery
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
    host_findings: tuple[Finding, ...] = ()  # they block every clear on this host
    failures: int = 0  # failed attempts in a row
    last_failure: str = ""
    nas_retry_at: datetime | None = None  # the schedule asks a silent twin again from then
    hold_file: str | None = None  # the text of `.exlab-hold`; None without one
    kept_from: datetime | None = None  # retention counts from it, if not from `verified_at`
    returned: bool = False  # its files came back after a clear
    unverified: str = ""  # files that a record does not vouch for
    kept_local: str = ""  # files that a record pins
    holds: tuple[Held, ...] = ()
    budget_finding: Finding | None = None  # the sweep's own, as the next
    breaker_finding: Finding | None = None
    data_files: int | None = None  # only for display, as all up to `locks`
    data_bytes: int | None = None
    desktop_files: int = 0
    desktop_bytes: int = 0
    largest: tuple[LargeFile, ...] = ()
    twin: TwinFacts | None = None
    locks: int = 0
    twin_findings: tuple[Finding, ...] = ()  # they block at any proof level
    twin_unnamed: str | None = None  # it blocks where no bytes are compared
    future: FutureFiles | None = None
    only_here: OnlyHere | None = None
    accepted: AcceptedFacts | None = None

    @property
    def accepts(self) -> bool:
        return self.accepted is not None and self.accepted.holds

    def wanted_proof(self, policy: Policy) -> ProofLevel:
        """Every byte if no record vouches for these files: a returned run's names the cleared ones."""
        return ProofLevel.CHECKSUM if self.accepts or self.returned else policy.proof
