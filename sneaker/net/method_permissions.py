"""Who may call which muxrpc method: strangers, peers whose feeds we replicate, programs with our own key.

Each service declares its methods and the least caller of each, at its top.  This module says which of the three a caller
is, and refuses what is not declared for it; ``manifest`` answers from the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sneaker.errors import CallRefused
from sneaker.refs import FeedRef
from sneaker.wire.muxrpc.calls import RequestReceived
from sneaker.wire.muxrpc.manifest import Method, Permission, manifest_for, refusal_text

__all__ = ["Handler", "ServedMethods", "permission_of"]

#: Serves a call; raises CallRefused.
Handler = Callable[[RequestReceived], None]


def permission_of(peer: FeedRef, me: FeedRef, host: str, is_near: bool) -> Permission:
    """Return what a peer may call; with our own key only from this machine, elsewhere it is a copy of us.

    ``host``: the IP address it comes from; ``is_near``: whether its feed is one of those we replicate.
    """
    if peer == me and host in ("127.0.0.1", "::1"):
        return Permission.OWN_KEY
    return Permission.REPLICATED_PEER if is_near else Permission.STRANGER


class ServedMethods:
    """The methods that one connected peer finds here, and what serves each."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, ...], tuple[Method, Handler]] = {}

    def add_methods(self, handlers: Mapping[Method, Handler]) -> None:
        """Serve these methods, too."""
        for method, handler in handlers.items():
            self._handlers[method.name] = method, handler

    def find(self, name: tuple[str, ...]) -> Method | None:
        """Return the method with that name, None if none is served."""
        return self._handlers[name][0] if name in self._handlers else None

    def handle(self, request: RequestReceived, permission: Permission) -> None:
        """Have a call served; raises CallRefused if this caller may not make it, or the handler refuses."""
        problem = refusal_text(self.find(request.name), request.name, request.kind, permission)
        if problem is not None:
            raise CallRefused(problem)
        self._handlers[request.name][1](request)

    def manifest(self, permission: Permission) -> dict[str, object]:
        """Return the names and kinds of what such a caller may call, nested as ``manifest`` answers them."""
        return manifest_for(permission, [method for method, _ in self._handlers.values()])
