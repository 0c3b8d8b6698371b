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
    """A hold that a person with an account laid on a run, until an instant.

    `sure_at`, where the host's clock is in doubt, is what it has reached for certain: no hold ends by more than that.
    `laid_on` is the path of another run on which it was laid and that may be this one, `because` by what; empty where
    it was laid on the run itself.
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
        """Who holds the run and why; of a hold of another run also why it counts here, and how to lift it."""
        own = f"by {self.owner}: {self.reason}"
        if not self.laid_on:
            return own
        return (
            f"{own} (laid on {self.laid_on}, which may be this run: {self.because}; release that hold, or say on this "
            "run's page that it is not the same run)"
        )


@dataclass(frozen=True, kw_only=True)
class ProofFacts:
    """What a comparison with the NAS showed.

    `level` is how far it went; `files` and `bytes` count the data files that were compared. At `checksum`
    every staged byte and every NAS byte was read, so `findings` is empty only if both equal the manifest; `reused_from`
    is when that was, if not for this decision: nothing on either side has changed since. So with `found_at`, when
    bytes were found to differ. `accepted`: both equal the bytes that an admin has accepted under this key, and not the
    manifest.
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
    """What an admin has said of a run's bytes, by its key; `holds`: both sides are as they were compared for it."""

    key: int
    actor: str
    at: datetime
    note: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class LargeFile:
    """One of a run's largest data files: its path as a person can read it, cut to a bounded length.

    `nas_bytes` is the size of its twin, None where the NAS has none or was not asked.
    """

    path: str
    bytes: int
    modified_at: datetime | None = None
    nas_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class TwinFacts:
    """What the NAS held of a run when names and sizes were compared; bytes are added up name by name.

    Of the staged data files `missing` were not there and `other_size` had another size; `more` files lay there alone.
    """

    files: int
    bytes: int
    newest_at: datetime | None = None
    missing: int = 0
    other_size: int = 0
    more: int = 0


@dataclass(frozen=True, kw_only=True)
class OnlyHere:
    """What a run has besides its bytes and the NAS lacks: attributes, entries with access lists, empty folders.

    `names` are the first few, as a person can read them.
    """

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

    `digest` tells sizes, mtimes and ctimes, which have been as they are `since` an earlier look, or this one. The
    others of the run were written at `others_at` or before, None if there are none.
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

    `fresh` tells a look made for this decision from one that was stored by discovery. `host_findings` speak against
    any clear on this host; `failures` are the attempts that failed in a row, and `last_failure` says how; before
    `nas_retry_at` the schedule does not ask for a twin again that kept silent. `hold_file`
    is what the file `.exlab-hold` at the run's top says, None without one. `budget_finding` and `breaker_finding` are a
    sweep's own: its limits, and what was abnormal. What people alone are shown, and no gate asks for: `data_files` and
    `data_bytes`, added up name by name, the `largest` of them, and the `twin`, None where the NAS was not compared.
    `desktop_files` of the `files`, with `desktop_bytes`, are those of desktops and NAS systems, which are no data.
    `locks` of them are empty locks of the wizard's, which come and go. `twin_findings` speak against the place
    of the twin, at any level; `twin_unnamed` says why the twin's own record does not name this run (None: it does, or
    need not), which matters where no bytes are compared.
    `kept_from` is from when the policy keeps the run, where that is not `verified_at`: our own first sight of the
    verification, where an earlier state of the run was seen here. Of a record without a history `unverified` names the
    files for which the record does not vouch. `kept_local` names those that a record pins.
    A run that was `returned` is kept from when its files were first seen again. `accepted`: bytes that an admin has
    accepted in place of the manifest.
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

        What the wizard has verified of a run that came back are the files of its former clear.
        """
        return ProofLevel.CHECKSUM if self.accepts or self.returned else policy.proof
