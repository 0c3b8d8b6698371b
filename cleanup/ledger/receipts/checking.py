"""Checks the receipt of a clear without this program: `python3 check_receipt.py FILE [--key FILE] [--nas-root PATH]`.

It needs Python 3.11 alone, and for the signature the package `cryptography` or the command `openssl`. It changes
nothing. `docs/check_receipt.py` is the same file as `cleanup/ledger/receipts/checking.py`; docs/receipts.md explains.

Exit status: 0 intact, and signed by the key given; 1 something differs, and it is named; 2 wrong use;
3 intact, origin unproven: anyone can sign with a key of their own, so compare the fingerprint.
"""

import argparse
import base64
import binascii
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

FORMAT = "exlab-receipt 1"
INTACT, DIFFERS, USAGE, UNPROVEN = 0, 1, 2, 3
MAX_BYTES = 64 << 20  # a receipt without its list is a few kilobytes; a run's history may be long
NAMED = 20  # more are only counted
_BLOCK = 1 << 20
_LIST = re.compile(r"files-[0-9a-f]{32}\.jsonl")
_FREED = {"completed", "partial"}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
Json = dict[str, Any]


class NoReceipt(Exception):
    """The file is no receipt, or only a part of one."""


class CannotCheck(Exception):
    """Nothing here can check a signature."""


@dataclass
class ReceiptCheck:
    """What a check has found. `differs`: what is wrong, in sentences; `notes`: what was not checked, or is worth
    knowing; `proven`: the key is the one that was given, or that the ledger has."""

    fingerprint: str = ""
    run_path: str = ""
    number: int = 0
    files: int = 0  # compared with the NAS
    proven: bool = False
    opened: "Opened | None" = None
    differs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        return DIFFERS if self.differs else INTACT if self.proven else UNPROVEN

    def as_json(self) -> Json:
        said = {"intact": not self.differs, "origin": "proven" if self.proven else "unproven"}
        of = {"fingerprint": self.fingerprint or None, "run_path": self.run_path or None, "number": self.number or None}
        return {**said, **of, "files_on_nas": self.files, "differs": self.differs, "notes": self.notes}

    def as_text(self) -> str:
        lines = [f"differs: {one}" for one in self.differs] + [f"note: {one}" for one in self.notes]
        if self.files:
            lines.append(f"on the NAS: {self.files} files were compared")
        if self.fingerprint:
            lines.append(f"fingerprint: {self.fingerprint}")
        verdict = {INTACT: "intact, signed by the known key", UNPROVEN: "intact, origin unproven"}
        of = f"receipt {self.number} of {self.run_path}: " if self.run_path else ""
        lines.append(of + verdict.get(self.status, "NOT intact"))
        # A forged name could overwrite the verdict on a terminal.
        spelt = ((sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line) for line in lines)
        return "\n".join(map("".join, spelt))


@dataclass(frozen=True)
class Opened:
    """A receipt's document, its signature (the public half in DER, and the value), and how its file stood."""

    document: Json
    public: bytes
    value: bytes
    claimed: str
    seen: tuple[int, ...]


def canonical(values: Any) -> bytes:  # noqa: ANN401
    """Return JSON with sorted keys, without blanks, in ASCII."""
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")


def signed_bytes(document: Json) -> bytes:
    """Return the bytes that are signed: the canonical document and the line's end."""
    return canonical(document) + b"\n"


def check(path: str, *, key: str = "", nas_root: str = "") -> ReceiptCheck:
    """Check a receipt; `key` is a file with a public half, `nas_root` the mounted NAS. Raises OSError for `key`."""
    found = ReceiptCheck()
    given = read_public(key) if key else b""
    try:
        found.opened = opened = read(path)
        document = opened.document
        found.fingerprint, found.number = _sha256(opened.public), int(document["number"])
        found.run_path = str(document["run"]["run_path"])
        _check_signature(opened, found)
        if given and given != opened.public:
            whose = f"it is signed by another key ({found.fingerprint}) than the one given ({_sha256(given)})"
            found.differs.append(whose)
        found.proven = bool(given) and given == opened.public
        found.differs += content_differs(document)
        _check_list(path, document, found, nas_root)
    except NoReceipt as error:
        found.differs.append(str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found.differs.append(f"it has not the shape of a receipt ({type(error).__name__}: {error})")
    if found.opened and _seen(path) != found.opened.seen:
        found.differs.append("it was changed while it was checked: check it again")
    return found


def _seen(file: str | int) -> tuple[int, ...]:
    try:
        status = os.stat(file)
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else ()


def read(path: str) -> Opened:
    """Read a receipt once: what is signed, shown and asked of the ledger are the same bytes. Raises NoReceipt."""
    try:
        with open(path, "rb") as file:
            seen, data = _seen(file.fileno()), file.read(MAX_BYTES + 1)
        said = json.loads(data, object_pairs_hook=_once)
    except OSError as error:
        raise NoReceipt(f"it cannot be read: {os.strerror(error.errno or 0)}") from None
    except (ValueError, RecursionError) as error:
        raise NoReceipt(f"it is no whole receipt: {error}") from None
    try:
        document, signature = said["receipt"], said["signature"]
        if len(said) != 2 or len(signature) != 4:
            raise NoReceipt("something stands beside what is signed")
        public, value = (base64.b64decode(signature[name], validate=True) for name in ("public_key", "value"))
        if document["format"] != FORMAT or signature["algorithm"] != "Ed25519":
            raise NoReceipt(f"its format {document['format']!r} is not known here; this reads {FORMAT!r}")
        return Opened(document, public, value, str(signature["fingerprint"]), seen)
    except (KeyError, TypeError, binascii.Error) as error:
        raise NoReceipt(f"it is no receipt: {type(error).__name__} {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> Json:
    if len(said := dict(pairs)) < len(pairs):
        raise ValueError("a name stands in it twice")
    return said


def read_public(path: str) -> bytes:
    """Return the public half in a PEM or DER file as DER. Raises OSError, ValueError."""
    with open(path, "rb") as file:
        data = file.read(_BLOCK)
    body = re.search(rb"-----BEGIN PUBLIC KEY-----(.+?)-----END PUBLIC KEY-----", data, re.DOTALL)
    if body is None and b"-----BEGIN" in data:
        raise ValueError("it holds no public key")
    return base64.b64decode(b"".join(body[1].split())) if body else data


def _check_signature(opened: Opened, found: ReceiptCheck) -> None:
    if opened.claimed != found.fingerprint:
        found.differs.append("its fingerprint is not the one of its key")
    try:
        if not is_signed(opened.public, signed_bytes(opened.document), opened.value):
            found.differs.append("its signature does not fit its content: one of them was changed")
    except CannotCheck as error:
        found.differs.append(str(error))


def is_signed(public: bytes, data: bytes, signature: bytes) -> bool:
    """Whether the Ed25519 key with this public half, in DER, has signed the data. Raises CannotCheck."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_der_public_key
    except ImportError:
        return _is_signed_by_openssl(public, data, signature)
    try:
        key = load_der_public_key(public)
        if not isinstance(key, Ed25519PublicKey):
            return False
        key.verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_signed_by_openssl(public: bytes, data: bytes, signature: bytes) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("key", public), ("data", data), ("signature", signature)):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        words = "openssl pkeyutl -verify -pubin -keyform DER -inkey key -rawin -in data -sigfile signature"
        try:
            done = subprocess.run(words.split(), cwd=folder, capture_output=True)
        except OSError:
            raise CannotCheck("its signature cannot be checked: install cryptography for Python, or openssl") from None
    if done.returncode and b"erification" not in done.stdout + done.stderr:
        raise CannotCheck(f"its signature cannot be checked: {done.stderr.decode(errors='replace').strip()[:200]}")
    return done.returncode == 0


def content_differs(document: Json) -> Iterator[str]:
    """Yield how a document contradicts itself: rows of the ledger, their chain, and what was freed."""
    ledger, attempt, last = document["ledger"], document["clear"]["attempt"], (0, "")
    began, head = ledger["began"], ledger["head"]
    text = f"exlab-ledger 1\n{document['installation']}\n{began['after']}\n{began['unvouched']}\n"
    beginning = _sha256(text.encode())
    for row in ledger["rows"]:
        content, link = row["content"], row["link"]
        name = f"row {content['id']} of the ledger ({content['kind']})"
        if content["attempt_id"] != attempt:
            yield f"{name} is of another clear"
        if link is None:
            continue
        position, sha256 = link["position"], link["sha256"]
        if _sha256(canonical(content)) != link["content_sha256"]:
            yield f"{name} is not what its digest says"
        if _sha256(f"{link['before']}\n{link['content_sha256']}\n".encode()) != sha256:
            yield f"{name} does not fit the chain"
        before = beginning if position == 1 else last[1] if position == last[0] + 1 else link["before"]
        if link["before"] != before:
            yield f"{name} does not follow the row before it in the chain"
        if position > head["position"] or (position == head["position"] and sha256 != head["sha256"]):
            yield f"{name} does not lie before the chain's head"
        last = (position, sha256)
    freed, contents = document["freed"], [row["content"] for row in ledger["rows"]]
    if [content["kind"] for content in contents].count("authorised") != 1:
        yield "its rows do not hold the one that authorised the clear"
    if not any(content["kind"] in _FREED for content in contents):
        yield "its rows do not say that anything was freed"
    for name in ("files", "bytes", "allocated_bytes"):
        total = sum(content[name] for content in contents if content["kind"] in _FREED)
        if total != freed[name]:
            yield f"freed {name}: it says {freed[name]}, its rows {total}"


def _check_list(path: str, document: Json, found: ReceiptCheck, nas_root: str) -> None:
    said = document["files"]
    if not _LIST.fullmatch(said["name"]):
        raise NoReceipt(f"it names {said['name']!r} as its list of files")
    beside = os.path.join(os.path.dirname(os.path.abspath(path)), said["name"])
    try:
        file = open(beside, "rb")  # noqa: SIM115
    except OSError as error:
        missing = f"its list of files {said['name']} is not beside it ({os.strerror(error.errno or 0)})"
        (found.differs if nas_root else found.notes).append(missing)
        return
    with file:
        if (hashlib.file_digest(file, "sha256").hexdigest(), file.tell()) != (said["sha256"], said["size"]):
            found.differs.append(f"its list of files {said['name']} was changed")
            return
        file.seek(0)
        before, again = len(found.differs), hashlib.sha256()
        try:
            _read_lines(_parsed(file, again), said, found, nas_root, str(document["twin"]["relative"]))
        except (KeyError, TypeError, ValueError):
            again.update(file.read())
            if again.hexdigest() == said["sha256"]:
                raise
        if again.hexdigest() != said["sha256"]:
            found.differs[before:] = [f"its list of files {said['name']} was changed while it was checked"]


def _parsed(file: IO[bytes], sha256: "hashlib._Hash") -> Iterator[Json]:
    for line in file:
        sha256.update(line)
        yield json.loads(line)


def _read_lines(lines: Iterable[Json], said: Json, found: ReceiptCheck, nas_root: str, twin: str) -> None:
    names = size = more = by_size = 0
    copy = Copy(nas_root, twin) if nas_root else None
    wrong: list[str] = []
    for line in lines:
        names, size = names + 1, size + line["size"]
        if copy is None or line["kept"]:
            continue  # the archive keeps these, and the NAS may hold an older state
        found.files += 1
        by_size += line["sha256"] is None
        if trouble := copy.trouble(line):
            more += len(wrong) >= NAMED
            wrong += [trouble] if len(wrong) < NAMED else []
    if by_size:
        found.notes.append(f"{by_size} files have no digest: on the NAS only their sizes were compared")
    found.differs += wrong + ([f"and {more} more files"] if more else [])
    there, told = f"{names} files with {size} bytes", (said["names"], said["bytes"])
    if (names, size) != told:
        found.differs.append(f"its list has {there}, it says {told[0]} and {told[1]}")
    if copy is not None:
        copy.close()


class Copy:
    """The run on the NAS, below a folder that the operator named. No link is followed on the way."""

    def __init__(self, root: str, twin: str) -> None:
        self._top, self._why = -1, ""
        self._folder: tuple[str, int] = ("", -1)
        try:
            self._top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            top = self._beneath(self._top, twin)
            os.close(self._top)
            self._top = top
        except (OSError, ValueError) as error:
            self._why = f"{twin}: {_words(error)}"

    def close(self) -> None:
        for descriptor in filter(lambda one: one >= 0, (self._top, self._folder[1])):
            os.close(descriptor)

    def trouble(self, line: Json) -> str:
        """Return why the NAS does not hold a file of the list; empty if it does."""
        path = line["path"]
        if self._why:
            return f"on the NAS {self._why}"
        try:
            size, sha256 = self._read(path, wanted=line["size"])
        except (OSError, ValueError) as error:
            return f"on the NAS {path!r}: {_words(error)}"
        if size != line["size"]:
            return f"on the NAS {path!r} has {size} bytes, not {line['size']}"
        return f"on the NAS {path!r} has other bytes" if line["sha256"] not in (None, sha256) else ""

    def _read(self, path: str, *, wanted: int) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        if name in ("", ".", ".."):
            raise ValueError("no name of a file")
        if self._folder[0] != folder or self._folder[1] < 0:
            if self._folder[1] >= 0:
                os.close(self._folder[1])
            self._folder = (folder, -1)
            self._folder = (folder, self._beneath(self._top, folder))
        with os.fdopen(os.open(name, _FILE, dir_fd=self._folder[1]), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("no plain file")
            same = status.st_size == wanted
            return status.st_size, hashlib.file_digest(file, "sha256").hexdigest() if same else ""

    def _beneath(self, folder: int, path: str) -> int:
        steps = path.split("/") if path else []
        if not {"", ".", ".."}.isdisjoint(steps):
            raise ValueError(f"{path!r} leads elsewhere")
        found = os.dup(folder)
        for step in steps:
            try:
                following = os.open(step, _FOLDER, dir_fd=found)
            finally:
                os.close(found)
            found = following
        return found


def _words(error: Exception) -> str:
    return os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the check is told."""
    parser.add_argument("file", metavar="FILE", help="The receipt; its list of files lies beside it.")
    parser.add_argument("--key", metavar="FILE", default="", help="The public key that must have signed it.")
    parser.add_argument("--nas-root", metavar="PATH", default="", help="Read the run's files below this folder.")


def main(words: list[str]) -> int:
    """Check a receipt and print what was found; returns the exit status."""
    parser = argparse.ArgumentParser(description="Check the receipt of a clear.")
    arguments(parser)
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    options = parser.parse_args(words)
    try:
        found = check(options.file, key=options.key, nas_root=options.nas_root)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"--key {options.key}: {_words(error)}\n")
        return USAGE
    sys.stdout.write((json.dumps(found.as_json()) if options.json else found.as_text()) + "\n")
    return found.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
