# Twins that keep silent while the NAS answers, and the processes that were given up on it.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', "0010_set_aside"),
    ]

    operations = [
        migrations.AddField(
            model_name='nasbreaker',
            name='abandoned',
            field=models.JSONField(blank=True, default=list, verbose_name='reading processes given up'),
        ),
        migrations.AddField(
            model_name='run',
            name='nas_retry_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='its twin is asked again from'),
        ),
        migrations.AddField(
            model_name='run',
            name='nas_slow_times',
            field=models.PositiveSmallIntegerField(default=0, verbose_name='times its twin was silent'),
        ),
    ]
