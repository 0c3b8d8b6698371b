# Limits over a day: which pass made an attempt, what was staged when a pass began, and what a go-on is for.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0019_said'),
    ]

    operations = [
        migrations.AddField(
            model_name='sweep',
            name='staged_bytes',
            field=models.BigIntegerField(blank=True, null=True, verbose_name='logical bytes when it began'),
        ),
        migrations.AddField(
            model_name='sweepbreaker',
            name='shown',
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='sweep',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='attempts', to='cleanup.sweep', verbose_name='pass'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='let_go',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='attempts', to='cleanup.sweepbreaker', verbose_name='let go after'),
        ),
    ]
