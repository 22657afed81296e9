"""What we serve over muxrpc, and to whom (PROTOCOL.md, section 8.1).

A method that is not in the table, or is not for this caller, is refused with the text that ssb-ebt and others compare:
they look for it to learn that a feature is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum
from typing import NamedTuple

from sneaker.wire.muxrpc.calls import CallKind, PeerError

__all__ = ["METHODS", "Method", "Permission", "is_unknown_method", "manifest", "refusal"]


class Permission(IntEnum):
    """Who calls; each may do what those before it may."""

    #: Any key that passed the handshake.
    ANONYMOUS = 0
    #: A peer that we replicate, and that nobody here blocks.
    PEER = 1
    #: Our own key: another program of the same person, on this machine.
    OWN = 2


class Method(NamedTuple):
    """One method: its name in parts, its kind, whether it answers at once, and the least caller that may use it."""

    name: tuple[str, ...]
    kind: CallKind
    permission: Permission
    sync: bool = False


METHODS: tuple[Method, ...] = (
    Method(("manifest",), CallKind.ASYNC, Permission.ANONYMOUS, sync=True),
    Method(("whoami",), CallKind.ASYNC, Permission.ANONYMOUS, sync=True),
    Method(("gossip", "ping"), CallKind.DUPLEX, Permission.ANONYMOUS),
    # JavaScript peers serve these to every key; what a stranger gets is decided feed by feed, as for everybody.
    Method(("createHistoryStream",), CallKind.SOURCE, Permission.ANONYMOUS),
    Method(("ebt", "replicate"), CallKind.DUPLEX, Permission.ANONYMOUS),
    Method(("blobs", "get"), CallKind.SOURCE, Permission.ANONYMOUS),
    Method(("blobs", "getSlice"), CallKind.SOURCE, Permission.ANONYMOUS),
    Method(("blobs", "has"), CallKind.ASYNC, Permission.ANONYMOUS),
    Method(("blobs", "createWants"), CallKind.SOURCE, Permission.ANONYMOUS),
    # Our whole vector clock tells whom we know.
    Method(("ebt", "clock"), CallKind.ASYNC, Permission.PEER),
    Method(("blobs", "size"), CallKind.ASYNC, Permission.OWN),
    Method(("blobs", "want"), CallKind.ASYNC, Permission.OWN),
    Method(("get",), CallKind.ASYNC, Permission.OWN),
    Method(("createLogStream",), CallKind.SOURCE, Permission.OWN),
    Method(("publish",), CallKind.ASYNC, Permission.OWN),
    Method(("status",), CallKind.ASYNC, Permission.OWN, sync=True),
)

_BY_NAME = {method.name: method for method in METHODS}


def refusal(
    name: Sequence[str],
    kind: CallKind,
    permission: Permission,
    served: Collection[tuple[str, ...]] | None = None,
) -> str | None:
    """Return the text that refuses a call, None if it is allowed.

    ``served`` are the methods that the driver has handlers for; None stands for all in the table.
    """
    method = _BY_NAME.get(tuple(name))
    if method is None or method.permission > permission or (served is not None and method.name not in served):
        return f"method:{','.join(name)} is not in list of allowed methods"
    if method.kind is not kind:
        return f"no {kind.value}:{','.join(name)}"
    return None


def manifest(permission: Permission, served: Collection[tuple[str, ...]] | None = None) -> dict[str, object]:
    """Return the nested object of names and kinds that ``manifest`` answers to such a caller."""
    result: dict[str, object] = {}
    for method in METHODS:
        if method.permission > permission or (served is not None and method.name not in served):
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
