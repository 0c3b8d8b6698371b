import django.db.models.functions.comparison
from django.db import migrations, models



class Migration(migrations.Migration):
    """Laid when the cleared runs are out of the way, and after SQLite has made the table anew for the last time."""

    dependencies = [("cleanup", "0007_places")]
    operations = [
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('judged__lt', models.F('doubts'))), fields=['id'], name='run_doubted'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('judge_after__isnull', False)), fields=['judge_after'], name='run_judge_after'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(models.F('tone'), models.OrderBy(django.db.models.functions.comparison.Coalesce('bytes', 0), descending=True), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('here', True)), name='run_here_by_tone'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(models.OrderBy(django.db.models.functions.comparison.Coalesce('bytes', 0), descending=True), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('here', True)), name='run_here_by_size'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(models.OrderBy(django.db.models.functions.comparison.Coalesce('files', 0), descending=True), models.OrderBy(models.F('id'), descending=True), condition=models.Q(('here', True)), name='run_here_by_files'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('here', True)), fields=['reason', 'tone'], name='run_here_by_reason'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('here', True)), fields=['state', 'tone'], name='run_here_by_state'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('here', True)), fields=['verified_at', 'id'], name='run_here_by_verified_at'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('here', True)), fields=['run_path', 'id'], name='run_here_by_path'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('here', True)), fields=['equipment', 'tone'], name='run_here_by_equipment'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('here', True)), fields=['project', 'tone'], name='run_here_by_project'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('here', True)), fields=['root', 'tone', 'reason', 'bytes', 'allocated_bytes', 'opens_at'], name='run_here_sums'),
        ),
        migrations.AddIndex(
            model_name='run',
            index=models.Index(condition=models.Q(('state', "cleared")), fields=['-cleared_at', '-id'], name='run_cleared_at'),
        ),
    ]
