"""init and id: make a home, and say whose it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sneaker.caps import Caps, parse_cap
from sneaker.cli.app import JsonOption, command, home, settings
from sneaker.cli.environment import default_memory
from sneaker.cli.printing import warn_of_memory_problem
from sneaker.home.config import CONFIG_NAME, Config, format_config

__all__: list[str] = []


@command()
def init(
    secret: Annotated[
        Path | None,
        typer.Option("--secret", metavar="FILE", help="Adopt the identity in this ssb-keys secret file."),
    ] = None,
    network_key: Annotated[
        str | None,
        typer.Option("--network-key", metavar="BASE64", help="Join another network than the main one."),
    ] = None,
    hmac_key: Annotated[
        str | None,
        typer.Option("--hmac-key", metavar="BASE64", help="HMAC key (caps.sign) of a test network that has one."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make the home: an identity and an empty store.

    With --secret the identity of an existing app, or of a lost home, is adopted. Bring its messages here before you publish
    anything, and never publish from two places: two machines that write with one key fork the feed.
    """
    from sneaker.home.home import create_home
    from sneaker.home.secret_file import load_secret
    from sneaker.keys import Keypair
    from sneaker.own_feed.fork_guard import ForkGuard

    caps = Caps()
    if network_key is not None or hmac_key is not None:
        caps = Caps(
            parse_cap(network_key) if network_key is not None else caps.network_key,
            parse_cap(hmac_key) if hmac_key is not None else None,
        )
    keypair = load_secret(secret) if secret is not None else Keypair.from_seed(os.urandom(32))
    create_home(settings.home, keypair, format_config(Config(caps=caps)), CONFIG_NAME, adopted=secret is not None)
    if secret is None:
        with home() as opened:
            guard = ForkGuard(opened, default_memory())
            guard.begin_memory()
            warn_of_memory_problem(guard.memory.problem)
    output = settings.output(json)
    if json:
        from sneaker.cli.json_output.home import home_json

        output.print_json(home_json(settings.home, keypair.public))
    else:
        print(keypair.public)
    output.print_remark(f"home made at {settings.home}; keep a copy of {settings.home / 'secret'} in a safe place")
    if secret is not None:
        output.print_remark(
            "bring this identity's own messages here before you publish; 'sneaker doctor' says how to go on"
        )


@command("id")
def show_id(json: JsonOption = False) -> None:
    """Print the identity of this home."""
    with home() as opened:
        me = opened.keypair.public
    if json:
        from sneaker.cli.json_output.home import id_json

        settings.output(json).print_json(id_json(me))
    else:
        print(me)
