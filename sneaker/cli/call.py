"""call: one call to a peer, and what it answers."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sneaker.cli.app import command, home
from sneaker.cli.peer_options import AddressArgument
from sneaker.cli.printing import clean
from sneaker.errors import ExitCode, UsageError

__all__: list[str] = []


@command()
def call(
    address: AddressArgument,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The name, for example blobs.has.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGS]", help="Each as JSON, or as it is if it is not JSON.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type", metavar="async|source", help="Default: what the peer's manifest says.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Stop a source after N items.")
    ] = None,
) -> int:
    """Call a method of a peer and print what it answers.

    That is JSON: one line, or a line for each item of a source.
    """
    from sneaker.cli.event_loop import run_until_stopped
    from sneaker.net.call_peer import call_peer
    from sneaker.wire.address import parse_address
    from sneaker.wire.muxrpc.calls import CallKind

    if kind is not None and kind not in (CallKind.ASYNC, CallKind.SOURCE):
        raise UsageError(f"a call of type {clean(kind, 20)!r} cannot be made from here", hint="use async or source")
    target = parse_address(address)
    out = sys.stdout.buffer

    def write(data: bytes) -> None:
        if sys.stdout.isatty():  # what is binary may be anything
            sys.stdout.write(data.decode("utf-8", "replace"))
        else:
            out.write(data)
        sys.stdout.flush()

    with home() as opened:
        done = run_until_stopped(
            call_peer(
                opened,
                target,
                method,
                arguments or [],
                write,
                kind=CallKind(kind) if kind is not None else None,
                limit=limit,
            )
        )
    return ExitCode.DONE if done else 130
