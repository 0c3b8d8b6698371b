# Runs that may be one and the same, and what a run is known by besides its folder.

import django.db.models.deletion
from django.db import migrations, models

_AT_ONCE = 500


def keep_manifests(apps, schema_editor):
    """Know staged runs by the manifests that discovery saw last: one may be renamed before the next look."""
    runs = apps.get_model("cleanup", "Run").objects
    staged = runs.exclude(state="cleared").filter(gone_at=None).order_by("pk").only("facts")
    found = []
    for run in staged.iterator(chunk_size=_AT_ONCE):
        proof = run.facts.get("proof") if isinstance(run.facts, dict) else None
        digest = proof.get("manifest_sha256") if isinstance(proof, dict) else None
        if isinstance(digest, str) and len(digest) == 64:
            run.manifest_sha256 = digest
            found.append(run)
    for start in range(0, len(found), _AT_ONCE):
        runs.bulk_update(found[start : start + _AT_ONCE], ["manifest_sha256"])


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0020_limits'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='manifest_sha256',
            field=models.CharField(blank=True, max_length=64, verbose_name='SHA-256 of its manifest'),
        ),
        migrations.AddField(
            model_name='run',
            name='traits',
            field=models.CharField(blank=True, max_length=64, verbose_name='digest of what it was last compared by'),
        ),
        migrations.CreateModel(
            name='Likeness',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('evidence', models.CharField(max_length=200, verbose_name='by what it may be that run')),
                ('found_at', models.DateTimeField()),
                ('denied_at', models.DateTimeField(blank=True, null=True)),
                ('denied_by', models.CharField(blank=True, max_length=150)),
                ('note', models.CharField(blank=True, max_length=500, verbose_name='reason given')),
                ('other', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='cleanup.run')),
                ('run', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='likenesses', to='cleanup.run')),
            ],
            options={
                'verbose_name_plural': 'likenesses',
                'ordering': ('pk',),
                'constraints': [models.UniqueConstraint(fields=('run', 'other'), name='one_likeness_per_pair'), models.CheckConstraint(condition=models.Q(('run', models.F('other')), _negated=True), name='no_run_is_like_itself')],
            },
        ),
        migrations.RunPython(keep_manifests, migrations.RunPython.noop),
    ]
