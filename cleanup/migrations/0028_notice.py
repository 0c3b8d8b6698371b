# The notice of an instrument, which says how long its data stays.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0027_past_runs'),
    ]

    operations = [
        migrations.AddField(
            model_name='instrument',
            name='notice',
            field=models.BooleanField(default=False, verbose_name='notice of how long data stays opens without signing in'),
        ),
    ]
