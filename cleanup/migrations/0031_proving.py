# Proofs that are made ahead of a click: how far each run is, who makes them on a NAS, and its limits.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0030_ledger_of_itself'),
    ]

    operations = [
        migrations.CreateModel(
            name='ProvingLease',
            fields=[
                ('nas', models.CharField(max_length=36, primary_key=True, serialize=False, verbose_name='token of the NAS root')),
                ('host', models.CharField(blank=True, max_length=255)),
                ('holder', models.CharField(blank=True, max_length=32)),
                ('until', models.DateTimeField(verbose_name='held until')),
                ('failures', models.PositiveSmallIntegerField(default=0, verbose_name='failures in a row')),
                ('again_after', models.DateTimeField(blank=True, null=True, verbose_name='asked again after')),
                ('reason', models.CharField(blank=True, max_length=40)),
                ('detail', models.CharField(blank=True, max_length=500)),
                ('bytes_per_second', models.BigIntegerField(default=0, verbose_name='read in a second, of both sides')),
            ],
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='prove_bytes_per_second',
            field=models.PositiveBigIntegerField(default=0, verbose_name='bytes a second read on the NAS'),
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='prove_from',
            field=models.TimeField(blank=True, null=True, verbose_name='proofs are made from'),
        ),
        migrations.AddField(
            model_name='stagingroot',
            name='prove_until',
            field=models.TimeField(blank=True, null=True, verbose_name='proofs are made until'),
        ),
        migrations.CreateModel(
            name='ProvingRun',
            fields=[
                ('run', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='proving', serialize=False, to='cleanup.run')),
                ('host', models.CharField(blank=True, max_length=255)),
                ('nas', models.CharField(blank=True, max_length=36, verbose_name='token of the NAS root')),
                ('phase', models.CharField(choices=[('asked', 'Asked'), ('waiting', 'Waiting'), ('reading', 'Reading'), ('put_off', 'Put Off'), ('proven', 'Proven'), ('differs', 'Differs')], default='asked', max_length=7)),
                ('phase_at', models.DateTimeField()),
                ('asked_at', models.DateTimeField(blank=True, null=True, verbose_name='last asked for')),
                ('expected_at', models.DateTimeField(blank=True, null=True, verbose_name='proven at about')),
                ('first_byte_at', models.DateTimeField(blank=True, null=True, verbose_name='first byte read at')),
                ('planned_bytes', models.BigIntegerField(default=0, verbose_name='bytes to read')),
                ('read_bytes', models.BigIntegerField(default=0, verbose_name='bytes read so far')),
                ('progress_at', models.DateTimeField(blank=True, null=True, verbose_name='last progress')),
                ('proven_at', models.DateTimeField(blank=True, null=True, verbose_name='last proven at')),
                ('seen', models.CharField(blank=True, max_length=64, verbose_name='what was proven, or was put off')),
                ('reason', models.CharField(blank=True, max_length=40)),
                ('detail', models.CharField(blank=True, max_length=500)),
                ('tries', models.PositiveSmallIntegerField(default=0, verbose_name='vain tries in a row')),
                ('again_after', models.DateTimeField(blank=True, null=True, verbose_name='tried again after')),
            ],
            options={
                'indexes': [models.Index(fields=['host', 'phase'], name='proving_by_phase')],
                'constraints': [models.CheckConstraint(condition=models.Q(('phase__in', ['asked', 'waiting', 'reading', 'put_off', 'proven', 'differs'])), name='proving_phase_is_known')],
            },
        ),
    ]
