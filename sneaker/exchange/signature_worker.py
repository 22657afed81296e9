"""A process that checks signatures: run as a script, it reads chunks from stdin and answers on stdout.

It stands alone (Python's library and PyNaCl, found by the folders given as arguments), because what it imports is
what it costs to start: 20 ms.  See ``verification`` for who starts it and why.

    chunk:   count (4 bytes), then count lengths (4 bytes each), then so many bytes each:
             public key (32 bytes), signature (64), what was signed
    answer:  count bytes, 1 for a valid signature, else 0          (all numbers little-endian)
"""

from __future__ import annotations

import os
import struct
import sys


def main() -> None:
    """Answer chunks until the input ends, which is also how it notices that its parent died."""
    sys.path.extend(sys.argv[1:])
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import CryptoError

    source = sys.stdin.buffer
    answer_to = sys.stdout.fileno()
    while len(header := source.read(4)) == 4:
        count = int.from_bytes(header, "little")
        lengths = struct.unpack(f"<{count}I", source.read(4 * count))
        data = source.read(sum(lengths))
        answer = bytearray(count)
        at = 0
        for place, length in enumerate(lengths):
            end = at + length
            try:
                crypto_sign_open(data[at + 32 : end], data[at : at + 32])
                answer[place] = 1
            except CryptoError:
                pass
            at = end
        os.write(answer_to, answer)


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt, struct.error):
        sys.exit(1)
