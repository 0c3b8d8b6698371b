# Clears that are tried again by themselves.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', "0012_policy_that_decided"),
    ]

    operations = [
        migrations.AddField(
            model_name='clearattempt',
            name='again_after',
            field=models.DateTimeField(blank=True, null=True, verbose_name='tried again after'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='asked_version',
            field=models.PositiveIntegerField(blank=True, null=True, verbose_name='policy version when it was asked for'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='interruptions',
            field=models.PositiveSmallIntegerField(default=0, verbose_name='tries before that were interrupted'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='repeats',
            field=models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='repeated_by', to='cleanup.clearattempt', verbose_name='tries again'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='tries',
            field=models.PositiveSmallIntegerField(default=0, verbose_name='tries before this one'),
        ),
        migrations.AddIndex(
            model_name='clearattempt',
            index=models.Index(condition=models.Q(('again_after__isnull', False)), fields=['again_after'], name='attempt_to_try_again'),
        ),
    ]
