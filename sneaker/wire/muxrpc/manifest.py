"""What a muxrpc method is, who may call it, and the texts of refusals (PROTOCOL.md, section 8.1).

The services that serve methods say which there are (``sneaker/net/services``).  What is not served, or is not for this
caller, is refused with the text by which ssb-ebt and others learn that a feature is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

from sneaker.wire.muxrpc.calls import CallKind, PeerError

__all__ = ["Method", "Permission", "is_unknown_method", "manifest_for", "refusal_text"]


class Permission(IntEnum):
    """Who calls; each may call what those before it may."""

    #: Any key that passed the handshake.
    STRANGER = 0
    #: A peer whose feed we replicate, and whom nobody here blocks.
    REPLICATED_PEER = 1
    #: Our own key: another program of the same person, on this machine.
    OWN_KEY = 2


class Method(NamedTuple):
    """One method: its name in parts, its kind, the least caller that may use it, and whether it answers at once."""

    name: tuple[str, ...]
    kind: CallKind
    permission: Permission
    sync: bool = False


def refusal_text(method: Method | None, name: Sequence[str], kind: CallKind, permission: Permission) -> str | None:
    """Return the text that refuses the call of ``name``, None if it is allowed.

    ``method`` is the one that is served under this name, None if there is none.
    """
    if method is None or method.permission > permission:
        return f"method:{','.join(name)} is not in list of allowed methods"
    if method.kind is not kind:
        return f"no {kind.value}:{','.join(name)}"
    return None


def manifest_for(permission: Permission, methods: Iterable[Method]) -> dict[str, object]:
    """Return the nested object of names and kinds that ``manifest`` answers to such a caller."""
    result: dict[str, object] = {}
    for method in methods:
        if method.permission > permission:
            continue
        level = result
        for part in method.name[:-1]:
            below = level.setdefault(part, {})
            if isinstance(below, dict):
                level = below
        level[method.name[-1]] = "sync" if method.sync else method.kind.value
    return result


def is_unknown_method(error: PeerError, name: Sequence[str]) -> bool:
    """Whether a peer's error says that it has no such method for us, in the words of any known implementation."""
    comma, dot = ",".join(name), ".".join(name)
    return error.message.startswith(f"muxrpc: no such command: {dot}") or error.message in (
        f"method:{comma} is not in list of allowed methods",
        f"method:{comma} is on list of disallowed methods",
        *(f"no {kind}:{comma}" for kind in CallKind),
    )
