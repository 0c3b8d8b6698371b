# Keys and restores are found without reading the whole ledger.

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('cleanup', '0029_reconciliation'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(condition=models.Q(('run', None)), fields=['kind', 'id'], name='ledger_of_itself'),
        ),
    ]
