"""A process that checks signatures: run as a script, it reads chunks from stdin and answers on stdout.

It stands alone (Python's library and PyNaCl, found by the folders given as arguments), because what it imports is
what it costs to start: 20 ms.  ``signatures.pool`` starts it, and says why.

    chunk:   count (4 bytes), then count lengths (4 bytes each), then so many bytes each:
             public key (32 bytes), signature (64), what was signed
    answer:  count bytes, 1 for a valid signature, else 0          (all numbers little-endian)
"""

from __future__ import annotations

import importlib
import os
import struct
import sys


def main() -> None:
    """Answer chunks until the input ends, which is also how it notices that its parent died."""
    sys.path.extend(sys.argv[1:])
    # What nacl.bindings.crypto_sign_open calls too, without its copies of message and result: 40.2 us instead of 41.4.
    sodium = importlib.import_module("nacl._sodium")
    ffi, crypto_sign_open = sodium.ffi, sodium.lib.crypto_sign_open
    nothing, size = ffi.NULL, ffi.new("unsigned long long *")
    source = sys.stdin.buffer
    answer_to = sys.stdout.fileno()
    while len(header := source.read(4)) == 4:
        count = int.from_bytes(header, "little")
        lengths = struct.unpack(f"<{count}I", source.read(4 * count))
        data = source.read(sum(lengths))
        if len(data) != sum(lengths):
            return
        at = ffi.from_buffer("unsigned char[]", data) + 0
        answer = bytearray(count)
        for place, length in enumerate(lengths):
            answer[place] = crypto_sign_open(nothing, size, at + 32, length - 32, at) == 0
            at += length
        os.write(answer_to, answer)


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt, struct.error):
        sys.exit(1)
