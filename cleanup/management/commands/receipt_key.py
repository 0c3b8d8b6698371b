"""Shows the key that signs this data directory's receipts, and makes another one."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from cleanup.lab.roots import opening
from cleanup.ledger.receipts import keys, writing
from cleanup.management.base import FAILED, LabCommand, now


class Command(LabCommand):
    help = "Show the public half of the key that signs receipts; with --renew make another key first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--renew", action="store_true", help="Make another key, signed by the one so far.")

    def handle(self, *args: object, **options: Any) -> None:  # noqa: ANN401
        try:
            with opening.data_dir().lock(writing.LOCK) as free:
                if not free:
                    raise CommandError("Receipts are being written; try again in a moment.", returncode=FAILED)
                key = keys.renew(now=now()) if options["renew"] else keys.current(now=now())
        except (keys.NoKey, OSError) as error:
            raise CommandError(f"There is no key: {error}", returncode=FAILED) from None
        pem = keys.as_pem(key.public)
        answer = {"fingerprint": key.fingerprint, "public_key": pem}
        self.report(options["json"], answer, f"fingerprint: {key.fingerprint}\n{pem}".rstrip())
