"""All commands: importing this module registers them.  Heavy imports stay inside the commands."""

from __future__ import annotations

from sneaker.cli import (
    demo,
    doctor,
    identity,
    import_export,
    inspect_verify,
    messages,
    peer_connect,
    setup,
    state,
    sticks,
    watch_run,
)
from sneaker.cli.app import app

__all__ = [
    "app",
    "demo",
    "doctor",
    "identity",
    "import_export",
    "inspect_verify",
    "messages",
    "peer_connect",
    "setup",
    "state",
    "sticks",
    "watch_run",
]

# The order of 'sneaker --help': as a person meets them.  The tests hold it together with what is registered.
ORDER = [
    "init",
    "id",
    "publish",
    "follow",
    "unfollow",
    "block",
    "unblock",
    "log",
    "status",
    "clock",
    "export",
    "import",
    "inspect",
    "verify",
    "check",
    "sync",
    "watch",
    "run",
    "setup",
    "peer",
    "connect",
    "once",
    "call",
    "doctor",
    "demo",
]

app.registered_commands.sort(key=lambda info: ORDER.index(info.name or str(getattr(info.callback, "__name__", ""))))
