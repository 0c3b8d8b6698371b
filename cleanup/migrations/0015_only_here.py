"""A policy may block runs with attributes, access lists or empty folders that the NAS lacks; old versions leave it."""

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("cleanup", "0014_measured_bytes")]

    operations: ClassVar = [
        migrations.AddField(
            model_name="retentionpolicy",
            name="only_here",
            field=models.CharField(blank=True, choices=[("tell", "tell"), ("block", "block")], default="", max_length=5),
            preserve_default=False,
        ),
        migrations.AddConstraint(
            model_name="retentionpolicy",
            constraint=models.CheckConstraint(
                condition=models.Q(only_here__in=["", "tell", "block"]), name="policy_only_here_is_known"
            ),
        ),
    ]
