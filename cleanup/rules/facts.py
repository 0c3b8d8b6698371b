"""What was seen of one run: the values that the gates decide from."""

from dataclasses import dataclass
from datetime import datetime

from cleanup.rules.policy import Policy, ProofLevel
from cleanup.rules.reasons import Reason
from cleanup.rules.states import State


@dataclass(frozen=True)
class Finding:
    """Something seen on disk that speaks against a clear: its reason and what exactly was seen."""

    reason: Reason
    detail: str = ""

    @property
    def said(self) -> str:
        """The reason as a sentence, and what was seen."""
        return f"{self.reason.sentence} {self.detail}".strip()


@dataclass(frozen=True, kw_only=True)
class Held:
    """A hold that a person laid on a run, until an instant.

    `sure_at`: what a doubted clock has reached for certain; the hold ends by that, not by the clock. `laid_on`: the
    path of another run that may be this one, and `because` of what; empty where it was laid on the run itself.
    """

    owner: str
    until: datetime
    reason: str
    laid_on: str = ""
    because: str = ""
    sure_at: datetime | None = None

    def lasts(self, now: datetime) -> bool:
        """Whether it is in force."""
        return self.until > (now if self.sure_at is None else min(now, self.sure_at))

    @property
    def said(self) -> str:
        """Who holds the run and why; of another run's hold also why it counts and how to lift it."""
        own = f"by {self.owner}: {self.reason}"
        if not self.laid_on:
            return own
        return (
            f"{own} (laid on {self.laid_on}, which may be this run: {self.because}; release that hold, or say on this "
            "run's page that it is not the same run)"
        )


@dataclass(frozen=True, kw_only=True)
class ProofFacts:
    """What a comparison with the NAS showed; `files` and `bytes` count the data files that were compared.

    At level `checksum` every byte of both sides was read, and without `findings` both equal the manifest, or the bytes
    that were `accepted` under this key. `reused_from`: when they were read, if earlier. `found_at`: when bytes were
    found to differ. Nothing has changed since either.
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
    """What an admin accepted of a run's bytes; `holds`: both sides are still as they were compared."""

    key: int
    actor: str
    at: datetime
    note: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class LargeFile:
    """One of a run's largest data files; its path is readable and cut.

    `nas_bytes`: None where the NAS has none or was not asked.
    """

    path: str
    bytes: int
    modified_at: datetime | None = None
    nas_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class TwinFacts:
    """What the NAS held of a run when names and sizes were compared; bytes are added up name by name.

    Of the staged data files `missing` were not there and `other_size` had another size; `more` lay on the NAS alone.
    """

    files: int
    bytes: int
    newest_at: datetime | None = None
    missing: int = 0
    other_size: int = 0
    more: int = 0


@dataclass(frozen=True, kw_only=True)
class OnlyHere:
    """How many attributes, access lists and empty folders a run has that the NAS lacks; `names` are the first few."""

    attributes: int
    access_lists: int
    folders: int
    names: tuple[str, ...]

    @property
    def words(self) -> str:
        """How many there are of each kind, and the first few by name."""
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
    """Data files that are dated later than the look that found them; `newest_at` is the latest of their times.

    `digest` of sizes, mtimes and ctimes: unchanged `since` this or an earlier look. `others_at`: the newest time of the
    run's other data files, None if there are none.
    """

    count: int
    names: tuple[str, ...]
    newest_at: datetime
    others_at: datetime | None
    digest: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was seen of one run, and when. Instants are aware; bytes are logical; None means unknown.

    `fresh`: looked at for this decision, not stored by discovery. `host_findings` block every clear on this host.
    `failures` is the number of failed attempts in a row. Before `nas_retry_at` the schedule does not ask for a silent
    twin again. `hold_file` is the text of `.exlab-hold`, None without one.

    `kept_from`: from when the policy keeps the run, where that is not `verified_at`. `returned`: its files came back
    after a clear. `unverified` and `kept_local` name files that a record does not vouch for, or pins. `twin_findings`
    block at any proof level; `twin_unnamed` blocks where no bytes are compared. `accepted`: bytes that an admin
    accepted in place of the manifest. `budget_finding` and `breaker_finding` are the sweep's own.

    Shown to people alone: `data_files`, `data_bytes`, `largest`, `twin`; of the `files` also the `desktop_files` and
    the wizard's empty `locks`.
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
        """Whether accepted bytes stand in for the manifest now."""
        return self.accepted is not None and self.accepted.holds

    def wanted_proof(self, policy: Policy) -> ProofLevel:
        """How far a comparison must go: as the policy says, but every byte where no record vouches for them.

        The record of a run that came back vouches for the files of its former clear.
        """
        return ProofLevel.CHECKSUM if self.accepts or self.returned else policy.proof
