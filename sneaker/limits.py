"""Every limit of sneaker's, each with its reason.

A limit bounds what somebody else can make us allocate, or states what the rest of the network will accept.
Formats state theirs in ``bundles-format.md`` as well; a test holds the two together.
"""

from __future__ import annotations

__all__ = [
    "MAX_BLOB_BYTES",
    "MAX_CLOCK_FEEDS",
    "MAX_JSON_LINE_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_MESSAGE_UNITS",
    "MAX_SECRET_BYTES",
    "MAX_SEQUENCE",
    "MAX_TYPE_UNITS",
    "MIN_TYPE_UNITS",
]

# 8192 UTF-16 code units of the canonical text, counted as JavaScript's .length counts them: peers refuse longer
# messages, so accepting one here would strand the feed after it (protocol reference, section 2.4).
MAX_MESSAGE_UNITS = 8192

# A UTF-16 code unit takes at most three bytes of UTF-8 (astral characters take two units and four bytes).
MAX_MESSAGE_BYTES = 3 * MAX_MESSAGE_UNITS

# ssb-validate checks sequences with JavaScript's ~~n === n, so a feed ends at 2^31-1.
MAX_SEQUENCE = 2**31 - 1

# Length of the "type" of an unencrypted message, in UTF-16 code units.
MIN_TYPE_UNITS = 3
MAX_TYPE_UNITS = 52

# ssb-blobs accepts strictly less than 5 MiB; a larger blob would stop at the first JavaScript peer.
MAX_BLOB_BYTES = 5 * 1024 * 1024 - 1

# A line of NDJSON holds one message with its key: 24 KiB of text, each byte of which may be a six-byte \u escape.
MAX_JSON_LINE_BYTES = 256 * 1024

# A secret file is about 300 bytes plus comments.
MAX_SECRET_BYTES = 64 * 1024

# The largest follow graph seen in the wild has tens of thousands of feeds; a million is junk that must not eat memory.
MAX_CLOCK_FEEDS = 200_000
