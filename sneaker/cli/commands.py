"""All commands: importing this module registers them.  Heavy imports stay inside the commands."""

from __future__ import annotations

from sneaker.cli import (
    call,
    check,
    clock,
    connect,
    demo,
    doctor,
    drive,
    follow,
    import_export,
    init_id,
    inspect_verify,
    log,
    once,
    peer,
    publish,
    setup,
    status,
    sync,
    watch_run,
)
from sneaker.cli.app import app

__all__ = [
    "app",
    "call",
    "check",
    "clock",
    "connect",
    "demo",
    "doctor",
    "drive",
    "follow",
    "import_export",
    "init_id",
    "inspect_verify",
    "log",
    "once",
    "peer",
    "publish",
    "setup",
    "status",
    "sync",
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
