"""Zstandard with bounds: the only module that imports zstandard.

Our own field beside a frame states how large it is unpacked, and no more than that is ever produced.  The library's
one-shot call would believe the frame instead, and a truncated frame would end without an error.
"""

from __future__ import annotations

import threading

import zstandard

from sneaker.errors import BundleDamaged

__all__ = ["DEFAULT_LEVEL", "compress", "decompress"]

# Measured on 100,000 ssb-fixtures messages in records of 1 MiB: level 12 costs 4 us a message and saves 2.4 bytes of
# each against level 9; levels above cost several times more for less than one byte.
DEFAULT_LEVEL = 12

# Message records are at most 4 MiB plain; a larger window can only be an attack on memory.
_MAX_WINDOW_LOG = 23
_MAX_WINDOW_BYTES = 1 << _MAX_WINDOW_LOG
# The levels ask for larger windows unless they are told.
_LAST_MODEST_LEVEL = 19

# Compressors keep tables of some MiB and are not safe to share between threads.
_local = threading.local()


def compress(data: bytes, level: int = DEFAULT_LEVEL) -> bytes:
    """Return ``data`` as one zstd frame that states its size; deterministic for one version of the library."""
    compressors: dict[int, zstandard.ZstdCompressor] | None = getattr(_local, "compressors", None)
    if compressors is None:
        compressors = _local.compressors = {}
    compressor = compressors.get(level)
    if compressor is None:
        if level <= _LAST_MODEST_LEVEL:
            compressor = zstandard.ZstdCompressor(level=level, write_checksum=False)
        else:
            parameters = zstandard.ZstdCompressionParameters(
                compression_level=level, window_log=_MAX_WINDOW_LOG, write_checksum=False, write_content_size=True
            )
            compressor = zstandard.ZstdCompressor(compression_params=parameters)
        compressors[level] = compressor
    return compressor.compress(data)


def decompress(data: bytes, plain_bytes: int) -> bytes:
    """Return exactly ``plain_bytes`` bytes out of the zstd frame in ``data``.

    The caller has checked ``plain_bytes`` against its own limit.  Raises BundleDamaged if the frame is broken, cut,
    or holds more or less.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    try:
        # read(n) gives at most n bytes, whatever the frame says, and fewer if the frame is cut.
        with decompressor.stream_reader(data, read_across_frames=False) as reader:
            plain = reader.read(plain_bytes) if plain_bytes else b""
            excess = reader.read(1)
    except zstandard.ZstdError:
        raise BundleDamaged("a compressed record cannot be read") from None
    if len(plain) != plain_bytes or excess:
        raise BundleDamaged("a compressed record does not hold what it says")
    return plain
