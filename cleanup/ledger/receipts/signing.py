"""A receipt as bytes: its document in one line, and the signature over that line."""

import base64
import json
from typing import Any

from cleanup.ledger.receipts import checking
from cleanup.ledger.receipts.keys import SigningKey

ALGORITHM = "Ed25519"


def sealed(document: dict[str, Any], key: SigningKey) -> bytes:
    """Return the file of a receipt.

    It is JSON; its second line is what is signed, with the line's end, so that `sed` and `openssl` can check it.
    """
    signed = checking.signed_bytes(document)
    signature = {
        "algorithm": ALGORITHM,
        "fingerprint": key.fingerprint,
        "public_key": base64.b64encode(key.public).decode("ascii"),
        "value": base64.b64encode(key.sign(signed)).decode("ascii"),
    }
    said = json.dumps(signature, sort_keys=True)
    return b'{"receipt":\n' + signed + b',"signature":\n' + said.encode("ascii") + b"}\n"
