"""The limits on the page are those of the code."""

from __future__ import annotations

import re

from sneaker import limits
from sneaker.bundle import card, compression, frames, records
from sneaker.bundle import message_records as messages
from tests.bundle.vectors import ROOT

PAGE = (ROOT / "bundles-format.md").read_text(encoding="utf-8")

CODE = {
    "payload": frames.MAX_PAYLOAD_BYTES,
    "header": records._MAX_HEADER_BYTES,
    "feeds in a clock or index": limits.MAX_CLOCK_FEEDS,
    "messages in a record": messages.MAX_RECORD_MESSAGES,
    "records in a bundle": frames.MAX_RECORDS,
    "runs in an index": records.MAX_SEGMENTS,
    "columns of a message record": messages.MAX_COLUMN_BYTES,
    "text of a record after references are put back": messages._MAX_TEXT_BYTES,
    "one message": limits.MAX_MESSAGE_BYTES,
    "blob": limits.MAX_BLOB_BYTES,
    "index, plain": records._MAX_INDEX_BYTES,
    "Zstandard window": compression._MAX_WINDOW_BYTES,
    "sequence": limits.MAX_SEQUENCE,
}
UNITS = {"": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20}


def number(text: str) -> int:
    """Read `8 MiB`, `24,576 bytes`, `5 MiB - 1`, `2^31 - 1`."""
    match = re.fullmatch(r"(?:2\^(\d+)|([\d,]+))(?: (bytes|KiB|MiB))?( - 1)?", text)
    assert match is not None, text
    power, plain, unit, less = match.groups()
    value = 2 ** int(power) if power else int(plain.replace(",", ""))
    return value * UNITS[unit or ""] - bool(less)


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_table_of_limits() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]*\|$", section("16. Limits"), re.MULTILINE)
    assert {name: number(value) for name, value in rows if value.strip("-:") and name != "what"} == CODE


def test_limits_in_the_text() -> None:
    assert f"at most {frames.MAX_PAYLOAD_BYTES >> 20} MiB" in section("3. Records")
    assert f"at most {records._MAX_FEATURES} names" in section("5. Header")
    assert f"at most {messages._MAX_RATIO} times the length of the payload" in section("7. Message records")
    assert f"at most {records._MAX_BLOB_RATIO} times the length of the payload" in section("8. Blob records")
    assert f"at most {records._MAX_INDEX_RATIO} times the length of the payload" in section(
        "9. Index, trailer and footer"
    )
    assert f"at most {card._MAX_WANTS:,}" in section("19. Cards")
    assert f"more than {card.MAX_CARD_BYTES >> 20} MiB" in section("19. Cards")


def test_the_record_types() -> None:
    rows = dict(re.findall(r"^\| `([0-9A-F]{2})` \| (\w+)[^|]*\|", section("4. Record types"), re.MULTILINE))
    assert rows == {f"{kind:02X}": kind.name.lower() for kind in frames.RecordType}


def test_the_markers() -> None:
    spelled = frames.MAGIC.hex(" ").upper()
    assert f"`{spelled}`" in section("2. Layout")
    assert f"`{frames.SYNC.hex(' ').upper()}`" in section("3. Records")
    assert f"`{frames.FOOTER_MAGIC.hex(' ').upper()}`" in section("9. Index, trailer and footer")
    assert f"`{card.CARD_MAGIC.hex(' ').upper()}`" in section("19. Cards")
