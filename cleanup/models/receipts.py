"""Signed receipts of clears. The files lie in the data directory; a row says which, and what the NAS has of them."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from cleanup.models.clears import ClearAttempt


class Receipt(models.Model):
    """One signed receipt; `told_at` to `tell_detail` are its outbox to the NAS."""

    attempt = models.ForeignKey(ClearAttempt, on_delete=models.PROTECT, related_name="receipts")
    number = models.PositiveIntegerField()  # from 1, for each later row of the ledger another one
    at = models.DateTimeField("written at")
    host = models.CharField(max_length=255)
    sha256 = models.CharField("SHA-256 of the receipt", max_length=64)
    size = models.BigIntegerField("bytes of the receipt")
    list_sha256 = models.CharField("SHA-256 of the list of files", max_length=64)
    list_size = models.BigIntegerField("bytes of the list of files")
    fingerprint = models.CharField("fingerprint of the key", max_length=64)
    position = models.BigIntegerField("head of the chain when it was written")
    told_at = models.DateTimeField("on the NAS since", null=True, blank=True)
    tell_after = models.DateTimeField("laid on the NAS after", null=True, blank=True)
    tell_tries = models.PositiveIntegerField("vain tries to lay it there", default=0)
    tell_reason = models.CharField("why the NAS does not have it", max_length=40, blank=True)
    tell_detail = models.TextField(blank=True)

    class Meta:
        ordering = ("-at", "-id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["attempt", "number"], name="one_receipt_per_number"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tell_after"], condition=Q(tell_after__isnull=False), name="receipt_to_lay"),
        ]

    def __str__(self) -> str:
        return f"receipt {self.number} of {self.attempt}"
