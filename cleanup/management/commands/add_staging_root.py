"""Register a staging root."""

from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from cleanup.management.base import LabCommand, UsageError, now
from cleanup.registering import RegistrationError, register, shares_its_disk


class Command(LabCommand):
    help = "Register a staging root and the NAS root that mirrors it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="A short name, such as lab.")
        parser.add_argument("path", help="The directory that holds EQUIPMENT/PROJECT/Runs/Run_DATE.")
        parser.add_argument("--nas-root", default="", metavar="PATH", help="The mounted directory that mirrors it.")
        parser.add_argument(
            "--allow-same-filesystem",
            action="store_true",
            help="Accept a NAS root on the same filesystem. That is no second copy: for trials only.",
        )
        parser.add_argument(
            "--accept-empty",
            action="store_true",
            help="Lay the token even in an empty directory, which may be a mount point without its disk.",
        )

    def handle(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        try:
            root = register(
                options["name"],
                options["path"],
                nas_path=options["nas_root"],
                allow_same_filesystem=options["allow_same_filesystem"],
                accept_empty=options["accept_empty"],
                now=now(),
            )
        except RegistrationError as error:
            raise UsageError(str(error)) from None
        warnings = []
        for path, token in ((root.path, root.token), (root.nas_path, root.nas_token)):
            if path and not token:
                warnings.append(
                    f"{path} is empty, so perhaps it is not mounted: nothing is done there until this command is "
                    "given again with its disk in place (or with --accept-empty)."
                )
        if not root.nas_path:
            warnings.append("No NAS root is registered: runs can be seen, and none can be proven.")
        if shares_its_disk(root):
            warnings.append(
                f"The data directory {settings.EXLAB_DATA_DIR} lies on the same filesystem as {root.path}: when runs "
                "fill that disk, the database can hardly write either. Keep it elsewhere (EXLAB_DATA_DIR)."
            )
        answer = {
            "name": root.name,
            "host": root.host,
            "path": root.path,
            "token": root.token or None,
            "nas_root": root.nas_path or None,
            "nas_token": root.nas_token or None,
            "allow_same_filesystem": root.allow_same_filesystem,
            "warnings": warnings,
        }
        for warning in warnings:
            self.stderr.write(warning)
        self.report(
            options["json"], answer, f"{root.name}: {root.path} on {root.host}, NAS root {root.nas_path or '-'}"
        )
