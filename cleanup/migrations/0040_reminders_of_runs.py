# Reminders of runs; whether the people of a run were told of files set aside.

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def know_the_former(apps, schema_editor):
    """What was set aside before is told to nobody now."""
    SetAside = apps.get_model("cleanup", "SetAside")
    SetAside.objects.filter(told_at=None).update(told_at=models.F("at"))


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0039_whose_run'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='RunReminder',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('note', models.CharField(blank=True, max_length=500)),
                ('created_at', models.DateTimeField()),
                ('told_at', models.DateTimeField(blank=True, null=True)),
                ('done_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'ordering': ('at', 'id'),
            },
        ),
        migrations.AddField(
            model_name='setaside',
            name='told_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='people of the run were told'),
        ),
        migrations.RunPython(know_the_former, migrations.RunPython.noop),
        migrations.AddIndex(
            model_name='setaside',
            index=models.Index(condition=models.Q(('state', 'done'), ('told_at', None)), fields=['id'], name='set_aside_untold'),
        ),
        migrations.AddField(
            model_name='runreminder',
            name='run',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='reminders', to='cleanup.run'),
        ),
        migrations.AddField(
            model_name='runreminder',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='run_reminders', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='runreminder',
            index=models.Index(condition=models.Q(('done_at', None)), fields=['at'], name='run_reminder_open'),
        ),
        migrations.AddConstraint(
            model_name='runreminder',
            constraint=models.UniqueConstraint(fields=('run', 'user', 'at'), name='one_reminder_per_run_user_and_instant'),
        ),
    ]
