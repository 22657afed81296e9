"""peer, and the peer of run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from sneaker.bugs import what_went_wrong
from sneaker.cli.app import command, home, settings
from sneaker.cli.peer_options import DiscoveryOption, HopsOption, peer_options
from sneaker.cli.printing import clean
from sneaker.home.config import load_config

__all__ = ["run_peer_service"]


async def run_peer_service(say: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Run the peer of this home as its settings say, until this is cancelled: for 'run'.

    A network that is not there, or a port, must not keep sticks from being synced: ``say`` is told, and ``warn`` what a
    person has to know.
    """
    from sneaker.cli.event_loop import AGAIN_S
    from sneaker.net.run_peer import run_peer

    try:
        options = peer_options(load_config(settings.home).peer)
        with home() as opened:
            await run_peer(opened, options, remark=lambda text: say(clean(text, 300)), warn=warn)
    except Exception as error:
        say(f"the peer does not run: {clean(what_went_wrong(error), 300)}; trying again in {AGAIN_S} s")


@command()
def peer(
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Where to listen. [default: all interfaces, port 8008]",
            show_default=False,
        ),
    ] = None,
    discovery: DiscoveryOption = None,
    connect_to: Annotated[
        list[str] | None,
        typer.Option(
            "--connect", metavar="ADDRESS", help="Stay connected to this peer; may be repeated.", show_default=False
        ),
    ] = None,
    hops: HopsOption = None,
) -> None:
    """Run the LAN peer: a normal SSB peer for other programs.

    It runs until it is stopped. Prints its addresses, one to a line, when it is ready.
    """
    from sneaker.cli.event_loop import run_until_stopped
    from sneaker.net.run_peer import run_peer

    options = peer_options(
        load_config(settings.home).peer,
        listen=listen,
        discovery=discovery,
        hops=hops,
        connect_to=connect_to or (),
    )
    output = settings.output()

    def ready(addresses: Any) -> None:
        for address in addresses:
            print(address, flush=True)

    with home() as opened:
        run_until_stopped(
            run_peer(opened, options, remark=lambda text: output.print_remark(clean(text, 300)), ready=ready)
        )
