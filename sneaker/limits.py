"""Every limit of sneaker's, each with its reason.

A limit bounds what somebody else can make us allocate, or states what the rest of the network will accept.
Formats state theirs in ``bundles-format.md`` as well; a test holds the two together.
"""

from __future__ import annotations

__all__ = [
    "MAX_ADDRESS_CHARACTERS",
    "MAX_BEACON_BYTES",
    "MAX_BLOB_BYTES",
    "MAX_BLOB_CHUNK_BYTES",
    "MAX_BLOB_WANTS",
    "MAX_BOX_BYTES",
    "MAX_CLOCK_FEEDS",
    "MAX_EARLY_BLOB_AGE_S",
    "MAX_JSON_DEPTH",
    "MAX_JSON_LINE_BYTES",
    "MAX_LEGACY_BEACON_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_MESSAGE_UNITS",
    "MAX_NOTES_PER_PACKET",
    "MAX_OPEN_CALLS",
    "MAX_PACKET_BYTES",
    "MAX_REORDER_BYTES",
    "MAX_REORDER_MESSAGES",
    "MAX_SECRET_BYTES",
    "MAX_SEQUENCE",
    "MAX_TYPE_UNITS",
    "MAX_UNWANTED_FEEDS",
    "MAX_WAITING_BYTES",
    "MIN_FREE_BESIDE_EARLY_BLOBS_BYTES",
    "MIN_TYPE_UNITS",
    "PUBLISH_WAIT_S",
]

# 8192 UTF-16 code units of the canonical text, counted as JavaScript's .length counts them: peers refuse longer
# messages, so one that is accepted here would strand the feed after it (PROTOCOL.md, section 2.4).
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

# Blobs that came before any message that mentions them (volumes arrive in any order) may wait as long as this much of the
# disk stays free. The rest is for messages: nobody may ever need a blob that nobody mentions.
MIN_FREE_BESIDE_EARLY_BLOBS_BYTES = 512 * 1024 * 1024

# They wait at most this long. It is also how long a machine that is away counts on a stick.
MAX_EARLY_BLOB_AGE_S = 90 * 24 * 60 * 60

# A line of NDJSON holds one message with its key: 24 KiB of text, each byte of which may be a six-byte \u escape.
MAX_JSON_LINE_BYTES = 256 * 1024

# A secret file is about 300 bytes plus comments.
MAX_SECRET_BYTES = 64 * 1024

# Messages that came before those they follow wait in the store. A quarter of a gigabyte is some 400,000 of them: enough
# for bundles that arrive in any order, and a bound for feeds that somebody made up without a beginning.
MAX_WAITING_BYTES = 256 * 1024 * 1024

# The largest follow graph seen has tens of thousands of feeds. This is several times that, and bounds memory.
MAX_CLOCK_FEEDS = 200_000

# Who publishes waits so many seconds for others who write to the store: an import lets others in between its transactions.
PUBLISH_WAIT_S = 5.0

# ---------------------------------------------------------------------------------------------------- the network

# pull-box-stream cuts at 4096 and go-ssb accepts no more, so we send no more. What we read is bounded by its u16 length.
MAX_BOX_BYTES = 4096

# muxrpc has no limit of its own. JavaScript peers send their whole vector clock as one body, about 65 bytes a feed:
# room for 60,000 feeds, more than the largest pubs carried.
MAX_PACKET_BYTES = 4 * 1024 * 1024

# How deep the JSON of peers may be nested. A message has at most 64 levels: the indentation of a deeper one alone would
# make its canonical text too long. One or two levels stand around it.
MAX_JSON_DEPTH = 100

# Calls that one peer may have open with us at once. ssb-server without EBT opens one live createHistoryStream for
# every feed that it follows, so this is thousands; a call costs us about 200 bytes.
MAX_OPEN_CALLS = 8192

# Our own vector clock goes out in parts of about 300 kB, below any peer's limit on bodies.
MAX_NOTES_PER_PACKET = 5000

# Feeds that we do not replicate: so many of their notes are remembered for a connection, the rest are ignored.
MAX_UNWANTED_FEEDS = 50_000

# How many wants of one peer are remembered.
MAX_BLOB_WANTS = 10_000

# ssb-blobs sends 64 KiB at a time.
MAX_BLOB_CHUNK_BYTES = 64 * 1024

# ssb-db2 answers createHistoryStream in the order of timestamps, so a whole feed may have to be held back and sorted.
# Longer feeds have to come over EBT. The bound is for all such streams of one connection together.
MAX_REORDER_MESSAGES = 20_000
MAX_REORDER_BYTES = 32 * 1024 * 1024

# One datagram on an ordinary network; longer ones would be fragmented, and nobody sends them.
MAX_BEACON_BYTES = 1472

# go-ssb reads 128 bytes of a legacy packet and drops the rest.
MAX_LEGACY_BEACON_BYTES = 128

# Multiserver addresses on one line, several alternatives joined; real ones have under 300 characters.
MAX_ADDRESS_CHARACTERS = 2048
