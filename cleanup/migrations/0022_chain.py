# The chain over the ledger: links, and the head. What the ledger holds already stays outside of it.

import hashlib
import uuid

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Count, Max


def begin(apps, schema_editor):
    """Begin the chain after the rows that there are."""
    old = apps.get_model("cleanup", "LedgerEntry").objects.order_by().aggregate(newest=Max("pk"), rows=Count("pk"))
    installation, after = uuid.uuid4(), old["newest"] or 0
    before = f"exlab-ledger 1\n{installation}\n{after}\n{old['rows']}\n"
    apps.get_model("cleanup", "LedgerHead").objects.create(
        pk=1,
        installation=installation,
        sha256=hashlib.sha256(before.encode()).hexdigest(),
        last_entry=after,
        began_after=after,
        unvouched=old["rows"],
    )


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0021_holds'),
    ]

    operations = [
        migrations.CreateModel(
            name='LedgerHead',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('installation', models.UUIDField(default=uuid.uuid4, editable=False)),
                ('position', models.BigIntegerField(default=0)),
                ('sha256', models.CharField(max_length=64, verbose_name='SHA-256 of the newest link')),
                ('last_entry', models.BigIntegerField(default=0, verbose_name='key of the newest row')),
                ('began_after', models.BigIntegerField(default=0, verbose_name='largest key from before the chain')),
                ('unvouched', models.BigIntegerField(default=0, verbose_name='rows from before the chain')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('pk', 1)), name='one_ledger_head')],
            },
        ),
        migrations.CreateModel(
            name='LedgerLink',
            fields=[
                ('position', models.BigIntegerField(primary_key=True, serialize=False)),
                ('form', models.PositiveSmallIntegerField(default=1)),
                ('content_sha256', models.CharField(max_length=64, verbose_name="SHA-256 of the row's content")),
                ('sha256', models.CharField(max_length=64, verbose_name='SHA-256 of the link before and of the content')),
                ('entry', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='link', to='cleanup.ledgerentry')),
            ],
            options={
                'ordering': ('position',),
                'constraints': [models.CheckConstraint(condition=models.Q(('position__gt', 0)), name='ledger_links_begin_at_one')],
            },
        ),
        migrations.RunPython(begin, migrations.RunPython.noop),
    ]
