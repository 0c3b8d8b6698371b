from django.db import migrations, models

EVENTS = [
    ("first_admin", "made as the first admin"),
    ("made", "made"),
    ("role", "role or places changed"),
    ("password", "new password"),
    ("deactivated", "deactivated"),
    ("activated", "activated again"),
]


class Migration(migrations.Migration):

    dependencies = [
        ("cleanup", "0033_remembered_looks"),
    ]

    operations = [
        migrations.CreateModel(
            name="FirstAdminToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("digest", models.CharField(max_length=64, verbose_name="SHA-256 of the token")),
                ("host", models.CharField(max_length=255, verbose_name="printed on")),
                ("issued_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="AccountNote",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("account", models.CharField(max_length=150)),
                ("event", models.CharField(choices=EVENTS, max_length=12)),
                ("detail", models.CharField(blank=True, max_length=1000)),
                ("actor", models.CharField(max_length=150)),
                ("at", models.DateTimeField()),
            ],
            options={
                "ordering": ("-pk",),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("event__in", [code for code, _words in EVENTS])),
                        name="account_event_is_known",
                    )
                ],
            },
        ),
    ]
