# Signed receipts of clears, and their outboxes.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0024_anchors'),
    ]

    operations = [
        migrations.CreateModel(
            name='Receipt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('at', models.DateTimeField(verbose_name='written at')),
                ('host', models.CharField(max_length=255)),
                ('sha256', models.CharField(max_length=64, verbose_name='SHA-256 of the receipt')),
                ('size', models.BigIntegerField(verbose_name='bytes of the receipt')),
                ('list_sha256', models.CharField(max_length=64, verbose_name='SHA-256 of the list of files')),
                ('list_size', models.BigIntegerField(verbose_name='bytes of the list of files')),
                ('fingerprint', models.CharField(max_length=64, verbose_name='fingerprint of the key')),
                ('position', models.BigIntegerField(verbose_name='head of the chain when it was written')),
                ('told_at', models.DateTimeField(blank=True, null=True, verbose_name='on the NAS since')),
                ('tell_after', models.DateTimeField(blank=True, null=True, verbose_name='laid on the NAS after')),
                ('tell_tries', models.PositiveIntegerField(default=0, verbose_name='vain tries to lay it there')),
                ('tell_reason', models.CharField(blank=True, max_length=40, verbose_name='why the NAS does not have it')),
                ('tell_detail', models.TextField(blank=True)),
            ],
            options={
                'ordering': ('-at', '-id'),
            },
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='receipt_after',
            field=models.DateTimeField(blank=True, null=True, verbose_name='a receipt is written after'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='receipt_problem',
            field=models.CharField(blank=True, max_length=400, verbose_name='why there is no receipt yet'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='receipt_tries',
            field=models.PositiveIntegerField(default=0, verbose_name='vain tries to write a receipt'),
        ),
        migrations.AddIndex(
            model_name='clearattempt',
            index=models.Index(condition=models.Q(('receipt_after__isnull', False)), fields=['receipt_after'], name='attempt_to_attest'),
        ),
        migrations.AddField(
            model_name='receipt',
            name='attempt',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='receipts', to='cleanup.clearattempt'),
        ),
        migrations.AddIndex(
            model_name='receipt',
            index=models.Index(condition=models.Q(('tell_after__isnull', False)), fields=['tell_after'], name='receipt_to_lay'),
        ),
        migrations.AddConstraint(
            model_name='receipt',
            constraint=models.UniqueConstraint(fields=('attempt', 'number'), name='one_receipt_per_number'),
        ),
    ]
