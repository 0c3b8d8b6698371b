# What disks gave back for clears, by their own count.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', "0013_tries"),
    ]

    operations = [
        migrations.AddField(
            model_name='clearattempt',
            name='disk_bytes',
            field=models.BigIntegerField(blank=True, null=True, verbose_name='size of the disk'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='disk_free_after',
            field=models.BigIntegerField(blank=True, null=True, verbose_name='free after the removal'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='disk_free_before',
            field=models.BigIntegerField(blank=True, null=True, verbose_name='free before the removal'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='measured_bytes',
            field=models.BigIntegerField(blank=True, null=True, verbose_name='bytes that the disk gave back'),
        ),
        migrations.AddField(
            model_name='clearattempt',
            name='unmeasured',
            field=models.CharField(blank=True, max_length=16, verbose_name='why that is not known'),
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='measured_bytes',
            field=models.BigIntegerField(blank=True, null=True, verbose_name='bytes that the disk gave back'),
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='unmeasured',
            field=models.CharField(blank=True, max_length=16, verbose_name='why that is not known'),
        ),
    ]
