"""The files at the top of a NAS root to which heads of the ledger's chain are appended.

They are asked beside the breaker: what fails here never keeps a clear waiting.
"""

from collections.abc import Iterator

from django.conf import settings
from django.utils import timezone

from cleanup.lab.nas.abandoned_readers import AbandonedReaders
from cleanup.lab.nas.nas_roots import NasRoot, nas_roots
from cleanup.models import NasBreaker, StagingRoot
from cleanup.rules.facts import Finding
from cleanup.rules.reasons import Reason
from cleanup.storage.nas.client import NasError, NasReader

# A sleeping disk has started by then; the caller has other work.
_LONGEST_SECONDS = 20.0


def nas_roots_here() -> dict[NasRoot, str]:
    """The NAS roots of this host's staging roots, each once, with the token of one of these."""
    roots = StagingRoot.objects.active().filter(host=settings.EXLAB_HOST).order_by("pk")
    found = [(nas, root.token) for root in reversed(roots) for nas in nas_roots(root)]
    return {nas: token for nas, token in dict(reversed(found)).items() if nas.path and nas.token}


def append(nas: NasRoot, staging: str, installation: str, line: str) -> None:
    """Append a line for an installation. Raises NasError."""
    with _reader(nas, staging) as reader:
        reader.anchor(installation, line)


def read(nas: NasRoot, staging: str, installation: str) -> Iterator[bytes]:
    """Yield what stands in an installation's files, in parts; nothing without one. Raises NasError."""
    with _reader(nas, staging) as reader:
        yield from reader.anchors(installation)


def _reader(nas: NasRoot, staging: str) -> NasReader:
    breaker = NasBreaker.objects.filter(host=settings.EXLAB_HOST, token=nas.token).first()
    if breaker is not None and breaker.open_until is not None and timezone.now() < breaker.open_until:
        raise NasError(Finding(Reason(breaker.reason), f"{breaker.detail}; it is not asked at the moment"))
    # Three abandoned readers would keep clears from asking: none of them may be ours beside another.
    abandoned = AbandonedReaders(nas.token)
    if not abandoned.none_lives():
        raise NasError(Finding(Reason.NAS_TIMEOUT, "a reading process still hangs in it"))
    timeout = min(settings.EXLAB_NAS_TIMEOUT, _LONGEST_SECONDS)
    return NasReader(nas.path, nas.token, staging=staging, timeout=timeout, abandoned=abandoned)
