"""Text made safe to print: the one list of characters that are escaped for the terminal."""

from __future__ import annotations

import re

__all__ = ["escaped", "escaped_json"]

# Controls (C0, DEL and C1, which some terminals obey), marks that change the direction of text or show nothing, other
# line ends, tags (text that is never shown), and lone surrogates. Joiners (U+200C, U+200D) stay: Persian and emoji are
# written with them.
_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f"
)
_IN_TEXT = re.compile(f"[{_UNSAFE}]")
_IN_LINE = re.compile(f"[\t\n{_UNSAFE}]")
# Compact JSON has escaped everything below U+0020 already.
_PERHAPS = re.compile(rb"[\x7f-\xff]")


def escaped(text: str, *, keep_lines: bool = False) -> str:
    r"""Return ``text`` with what is not safe to print as ``\uXXXX``, as in JSON; ``keep_lines`` leaves tabs and line ends."""
    return (_IN_TEXT if keep_lines else _IN_LINE).sub(_escape, text)


def escaped_json(line: bytes) -> bytes:
    """Return compact JSON, in UTF-8, safe to print; whoever parses it gets the same value."""
    if _PERHAPS.search(line) is None:
        return line
    return escaped(line.decode("utf-8", "replace")).encode("utf-8")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}"
    return f"\\u{code:04x}"
