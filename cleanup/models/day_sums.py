"""What the ledger's rows come to, by day and by month."""

from typing import ClassVar

from django.db import models


class Dimension(models.TextChoices):
    """By what the ledger's rows are added up. Every freeing row counts once in each, but `refusal` counts refusals."""

    EQUIPMENT = "equipment", "instrument"
    PROJECT = "project"
    PERSON = "person"
    TRIGGER = "trigger"
    POLICY = "policy"
    ROOT = "root", "staging root"
    PROOF = "proof"
    REFUSAL = "refusal", "reason of a refusal"
    DURATION = "duration", "time from verification to clearing"


class DaySum(models.Model):
    """The rows of one day, or of a month whose first day is `day`, with one value of one dimension.

    Days are those of `zone`. Bytes stand in halves, as value >> 32 and the rest: sums of the halves never overflow.
    Written by `ledger.sums` under the lock of the ledger's head, in the transaction of the rows.
    """

    of_month = models.BooleanField(default=False)
    day = models.DateField()
    zone = models.CharField(max_length=64)
    dimension = models.CharField(max_length=9, choices=Dimension)
    key = models.CharField(max_length=255, blank=True)
    key2 = models.CharField("instrument of a duration", max_length=255, blank=True)
    first_entry = models.BigIntegerField("key of the first row in it")
    entries = models.BigIntegerField("rows")
    clears = models.BigIntegerField("rows that are the first of their attempt")
    files = models.BigIntegerField()
    bytes_upper = models.BigIntegerField("logical bytes, upper half")
    bytes_lower = models.BigIntegerField("logical bytes, lower half")
    allocated_upper = models.BigIntegerField("allocated bytes, upper half")
    allocated_lower = models.BigIntegerField("allocated bytes, lower half")
    measured_upper = models.BigIntegerField("measured bytes, upper half")
    measured_lower = models.BigIntegerField("measured bytes, lower half")
    # The allocated bytes of the rows that were measured.
    measured_of_upper = models.BigIntegerField("measured of these bytes, upper half")
    measured_of_lower = models.BigIntegerField("measured of these bytes, lower half")

    class Meta:
        ordering = ("of_month", "day", "dimension", "key", "key2", "zone")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["of_month", "day", "dimension", "key", "key2", "zone"], name="one_sum_per_day_and_key"
            ),
        ]
        # For the days on which a value occurs.
        indexes: ClassVar = [models.Index(fields=["dimension", "key", "of_month", "day"], name="day_sum_by_key")]

    def __str__(self) -> str:
        return f"{self.dimension} {self.key} on {self.day}"
