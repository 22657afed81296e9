"""Why a socket does not do what we want, in the system's words and without asyncio's around them."""

from __future__ import annotations

import os
import socket

__all__ = ["socket_error_words"]


def socket_error_words(error: OSError) -> str:
    """Return the reason in lower case: "connection refused"."""
    if isinstance(error, socket.gaierror):
        return (error.strerror or "its name cannot be looked up").lower()
    if error.errno is not None:
        return os.strerror(error.errno).lower()
    # asyncio found several addresses behind a name, and each failed in its own way.
    return "none of its addresses answers" if str(error).startswith("Multiple") else type(error).__name__
