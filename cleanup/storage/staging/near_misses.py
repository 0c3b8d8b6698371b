"""Names and lines that are nearly right, explained for the operator. Nothing here accepts them."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping

_HOLD = re.compile(r"\.?(?:exlab[-_ .]?)?hold(?:[-_ .]?file)?(?:\.\w{1,5})?", re.IGNORECASE)
_SUMS = re.compile(
    r"(?:sha\d*|md5|b2|checksums?)(?:sums?)?(?:\.\w{1,6}){0,2}|.*\.(?:md5|sha1|sha256|sfv)", re.IGNORECASE
)
_COPY = re.compile(
    r"(?P<name>.+?)(?:~|\.(?:bak|old|orig|save|swp|copy)\d*| \(\d+\)(?P<ending>\.\w+)?"
    r"| - (?:Copy|Kopie|Copie)(?: \(\d+\))?(?P<end>\.\w+)?)",
    re.IGNORECASE,
)
_LOG = re.compile(r"wizard\..*\.log(?:\.\d+)?")
_HASHES = {32: "MD5", 40: "SHA-1", 56: "SHA-224", 96: "SHA-384", 128: "SHA-512", 8: "CRC-32"}
_HEX_FIRST = re.compile(rb"\\?([0-9a-fA-F]{8,128})[ \t*,;]")
_BSD = re.compile(rb"(\w[\w/-]*) \(.*\) = [0-9a-fA-F]+", re.DOTALL)
_MARKS = {b"\xef\xbb\xbf": "UTF-8 with a byte order mark (BOM)", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_KNOWN = ("ingest.json", "sync_state.json", "creation.json", "readme_fields.json", "checksums.sha256")
_MANIFEST = "checksums.sha256"


def of_metadata(name: bytes) -> str:
    """Says what a file in `.exlab-wizard` resembles; empty for nothing."""
    text = name.decode("utf-8", "replace")
    if text.lower() in _KNOWN:
        return f": spelt otherwise than {text.lower()}"
    if said := of_hold(text):
        return said
    copied = _copied(text)
    if copied.lower() in _KNOWN or _LOG.fullmatch(copied):
        return f": a copy of {copied} that an editor or a file manager has left"
    if _SUMS.fullmatch(text):
        return f": looks like a manifest of another program; only {_MANIFEST} is read"
    return ""


def _copied(text: str) -> str:
    if text.startswith("#") and text.endswith("#"):
        return text.strip("#")
    found = _COPY.fullmatch(text.removeprefix("."))
    return found["name"] + (found["ending"] or found["end"] or "") if found else ""


def of_hold(text: str) -> str:
    """Says that a name is meant as a hold file; else empty."""
    if text != ".exlab-hold" and _HOLD.fullmatch(text):
        return ": looks like a hold file, which must be called .exlab-hold and lie at the run's top"
    return ""


def of_size(sizes: Mapping[bytes, int]) -> str:
    """Names the largest file of the metadata, and whether the wizard wrote it."""
    if not sizes:
        return ""
    name = max(sizes, key=lambda path: sizes[path])
    text = name.decode("utf-8", "replace")
    whose = "a log of the wizard's own, which it can write anew" if _LOG.fullmatch(text) else "the largest"
    return f"; {sizes[name]} of them in {text}, {whose}"


def of_encoding(data: bytes) -> str:
    """Names the encoding that a file's first bytes show; empty for plain UTF-8."""
    return next((said for mark, said in _MARKS.items() if data.startswith(mark)), "")


def of_manifest_line(line: bytes) -> str:
    """Says what a wrong manifest line resembles; empty for nothing."""
    if found := _BSD.fullmatch(line):
        return f"it is written as BSD tools do ({found[1].decode('ascii', 'replace')} (path) = …)"
    found = _HEX_FIRST.match(line)
    if found and len(found[1]) in _HASHES:
        return f"its checksum is {_HASHES[len(found[1])]}, not SHA-256"
    if found and len(found[1]) == 64:
        return "its checksum and its path are not parted by two blanks"
    return ""


def of_names(unlisted: Collection[bytes], missing: Iterable[bytes]) -> str:
    """Says why files and manifest differ where only the spelling differs."""
    there = _texts(unlisted)
    held = next((said for text in there if "/" not in text and (said := of_hold(text))), "")
    if words := written_otherwise(unlisted, missing):
        return f"the manifest writes names {words}, so it is another program's{held and '; one' + held[1:]}"
    return held and f"one{held[1:]}"


def written_otherwise(unlisted: Iterable[bytes], missing: Iterable[bytes]) -> str:
    """Says how an unlisted file's name differs from a missing one's."""
    there, wanted = _texts(unlisted), _texts(missing)
    for change, words in _WRITTEN_OTHERWISE:
        changed = {change(text) for text in wanted}
        if any(change(text) in changed for text in there):
            return words
    return ""


def _texts(paths: Iterable[bytes]) -> list[str]:
    return [path.decode("utf-8", "surrogateescape") for path in paths]


def _slashes(text: str) -> str:
    return text.replace("\\", "/")


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _latin(text: str) -> str:
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")


_WRITTEN_OTHERWISE = (
    (_slashes, "with backslashes"),
    (_composed, "in another Unicode form (as macOS does)"),
    (str.casefold, "in another case"),
    (_latin, "in another encoding"),
    (lambda text: _composed(_slashes(text)).casefold(), "in another way"),
    (lambda text: text.rpartition("/")[2], "with another folder before them"),
)
