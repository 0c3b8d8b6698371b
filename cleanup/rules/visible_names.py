"""Names as people can read them: instruments and open shares give names with any characters."""

import unicodedata

# Characters that draw nothing, or change how their neighbours are drawn; a lone surrogate stands for
# a byte of a file name that is no UTF-8.
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def visible(text: str) -> str:
    r"""The text with invisible characters spelled out, such as `\u202e`."""
    return text if text.isprintable() else "".join(map(_spelled, text))


def _spelled(char: str) -> str:
    if unicodedata.category(char) not in UNSEEN:
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
