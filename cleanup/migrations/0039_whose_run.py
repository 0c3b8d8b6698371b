# The people whom records name; search words fold the case of all letters, however they are written.

import re
import unicodedata

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

BATCH = 20_000


def fold_words(apps, schema_editor):
    """Write the words of unusual names again, some at a time; twice is harmless."""
    RunWord = apps.get_model("cleanup", "RunWord")
    last = RunWord.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    for first in range(0, last, BATCH):
        some = RunWord.objects.filter(pk__gt=first, pk__lte=first + BATCH, kind="o").order_by()
        for key, before, leaf in some.values_list("pk", "text", "run__leaf"):
            text = folded(leaf)[:192]
            if text != before:
                RunWord.objects.filter(pk=key).update(text=text)


def folded(text):
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u0131", "i")
    return unicodedata.normalize("NFKC", re.sub("i\u0307+", "i", plain))


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0038_waiting_batches'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Person',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=128)),
                ('folded', models.CharField(max_length=255, unique=True)),
                ('searched', models.CharField(max_length=255)),
            ],
            options={
                'verbose_name_plural': 'people in records',
                'ordering': ('folded',),
            },
        ),
        migrations.AddField(
            model_name='run',
            name='people',
            field=models.JSONField(blank=True, null=True, verbose_name='people in its record'),
        ),
        migrations.CreateModel(
            name='AccountName',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=128, verbose_name='name in records')),
                ('folded', models.CharField(db_index=True, editable=False, max_length=255)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='record_names', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'name in records',
                'verbose_name_plural': 'names in records',
                'ordering': ('user', 'folded'),
                'constraints': [models.UniqueConstraint(fields=('user', 'folded'), name='one_row_per_name_of_an_account', violation_error_message='This name is there already.')],
            },
        ),
        migrations.CreateModel(
            name='RunPerson',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('person', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='cleanup.person')),
                ('run', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='named_people', to='cleanup.run')),
            ],
            options={
                'indexes': [models.Index(fields=['person', 'run'], name='run_person_by_person')],
                'constraints': [models.UniqueConstraint(fields=('run', 'person'), name='one_row_per_person_of_a_run')],
            },
        ),
        migrations.RunPython(fold_words, migrations.RunPython.noop),
    ]
