"""The request of a sweep."""

from dataclasses import dataclass
from datetime import datetime

from cleanup.models import SweepKind
from cleanup.rules.anomalies import Clock


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """What a caller asks of a sweep. `timed`: no operator watches, so rehearsal and breakers bind it."""

    now: datetime
    dry_run: bool = False
    timed: bool = False
    limit: int | None = None
    actor: str = ""
    clock: Clock | None = None

    @property
    def kind(self) -> SweepKind:
        return SweepKind.DRY_RUN if self.dry_run else self.kind_in_earnest

    @property
    def kind_in_earnest(self) -> SweepKind:
        return SweepKind.TIMED if self.timed else SweepKind.TYPED
