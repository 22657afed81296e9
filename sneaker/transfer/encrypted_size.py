"""How large a bundle is once it is encrypted, and how its size is hidden: filled up to one of few size classes."""

from __future__ import annotations

__all__ = ["limit_before_encryption", "padded_size"]

# What age adds: a header with a stanza for each recipient (and one of random length that means nothing), and 16 bytes
# for each 64 KiB.
_AGE_HEAD_BYTES = 2048
_AGE_RECIPIENT_BYTES = 128
_AGE_CHUNK_BYTES = 64 * 1024
_AGE_TAG_BYTES = 16


def limit_before_encryption(size: int, recipients: int, *, padded: bool) -> int:
    """Return how large a bundle may be so that it is not larger than ``size`` once encrypted to so many recipients.

    ``padded`` says that it is filled up to its size class.
    """
    room = size - _AGE_HEAD_BYTES - _AGE_RECIPIENT_BYTES * recipients
    room -= _AGE_TAG_BYTES * (room // _AGE_CHUNK_BYTES + 1)
    if padded:  # the largest size class that still fits
        step = 1 << max(0, (exponent := room.bit_length() - 1) - exponent.bit_length())
        room = room // step * step
    return max(room, 1)


def padded_size(size: int) -> int:
    """Round a size up by Padme (Nikitin et al., PETS 2019): at most an eighth is added, usually far less."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << max(0, low_bits)) - 1
    return (size + mask) & ~mask
