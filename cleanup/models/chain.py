"""The chain that binds the ledger's rows to one another."""

import uuid
from typing import ClassVar

from django.db import models

from cleanup.models.base import AppendOnly
from cleanup.models.ledger import LedgerEntry


class LedgerLink(AppendOnly):
    """What vouches for one row of the ledger: digests of its content and of all rows before it.

    It is written before its row, in the same transaction; a trigger refuses a row without it. Rows from before the
    chain began have none.
    """

    position = models.BigIntegerField(primary_key=True)  # gapless, from 1
    entry = models.OneToOneField(LedgerEntry, on_delete=models.PROTECT, related_name="link")
    form = models.PositiveSmallIntegerField(default=1)  # of the canonical content, see `ledger.chain`
    content_sha256 = models.CharField("SHA-256 of the row's content", max_length=64)
    sha256 = models.CharField("SHA-256 of the link before and of the content", max_length=64)

    class Meta:
        ordering = ("position",)
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(position__gt=0), name="ledger_links_begin_at_one"),
        ]

    def __str__(self) -> str:
        return f"{self.position}: {self.sha256[:12]}"


class LedgerHead(models.Model):
    """The chain's one head. Who writes to the ledger locks it, last of all locks, until the commit."""

    installation = models.UUIDField(default=uuid.uuid4, editable=False)
    position = models.BigIntegerField(default=0)  # of the newest link
    sha256 = models.CharField("SHA-256 of the newest link", max_length=64)
    last_entry = models.BigIntegerField("key of the newest row", default=0)
    # Rows from before the chain: their largest key and their number.
    began_after = models.BigIntegerField("largest key from before the chain", default=0)
    unvouched = models.BigIntegerField("rows from before the chain", default=0)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(pk=1), name="one_ledger_head"),
        ]

    def __str__(self) -> str:
        return f"{self.position}: {self.sha256[:12]}"
