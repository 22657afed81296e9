"""clock: the own vector clock, and the card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sneaker.cli.app import command, home, now_ms, settings
from sneaker.cli.printing import counted
from sneaker.errors import OutputError

__all__: list[str] = []


@command()
def clock(
    card: Annotated[
        str | None,
        typer.Option("--card", metavar="FILE", help="Write it as a signed card, for whoever exports for you."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help='Print {"feed": sequence, ...}.')] = False,
) -> None:
    """Print the clock: the last message that is here of each feed.

    Another machine needs it to write only what you lack: 'sneaker export DEST --for FILE'.
    """
    from sneaker.stick.own_card import write_card

    output = settings.output(json)
    if card is not None and card.endswith("/"):
        raise OutputError(
            f"cannot write {card}: that is the name of a folder", hint=f"name the file: --card {card}my.card"
        )
    with home() as opened:
        held = opened.store.clock()
        if card is not None:
            write_card(Path(card), opened, now_ms=now_ms())
            output.print_remark(f"wrote {card}: {counted(len(held), 'feed')}")
    if json:
        output.print_json(held.as_json())
    elif card is None:
        for feed, sequence in sorted(held.items()):
            print(f"{feed}  {sequence}")
