"""drive: enrol sticks and look after them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.cli.app import JsonOption, StickArgument, home, now_ms, settings
from sneaker.cli.commands import command_group
from sneaker.cli.printing import clean, counted
from sneaker.errors import StickError
from sneaker.sizes import format_size

if TYPE_CHECKING:
    from sneaker.store.sticks import StickRecord

__all__: list[str] = []

drive = command_group("drive", "Enrol sticks and look after them.")

LabelOption = Annotated[str, typer.Option("--label", metavar="TEXT", help="What you call this stick.")]


def _stick_words(item: StickRecord) -> str:
    from sneaker.stick.layout import base32

    name = f"{clean(item.label, 60)} " if item.label else ""
    when = (
        datetime.fromtimestamp(item.visited_at_ms / 1000, UTC).strftime("last visit %Y-%m-%d %H:%M UTC")
        if item.visited_at_ms
        else "not visited yet"
    )
    return f"{name}({base32(item.id)}), {when}"


@drive.command("init")
def init(path: StickArgument, label: LabelOption = "", json: JsonOption = False) -> None:
    """Make a folder a stick, and enrol it here.

    Writes a SNEAKER folder with a marker and a note for the finder; everything else there stays as it is.
    """
    from sneaker.stick.enrolment import enrol

    with home() as opened:
        made, new = enrol(opened, path, label, now_ms=now_ms(), random_bytes=os.urandom)
    verb = "made and enrolled" if new else "was a stick already; enrolled"
    _print_stick(made, f"{clean(str(path))} {verb}: {_stick_words(made)}", json)
    _say_what_now(path)


@drive.command("trust")
def trust(path: StickArgument, label: LabelOption = "", json: JsonOption = False) -> None:
    """Enrol a stick that another machine made."""
    from sneaker.stick.enrolment import trust as trust_stick

    with home() as opened:
        trusted = trust_stick(opened, path, label, now_ms=now_ms())
    _print_stick(trusted, f"trusted: {_stick_words(trusted)}", json)
    _say_what_now(path)


def _print_stick(stick: StickRecord, words: str, json: bool) -> None:
    if json:
        from sneaker.cli.json_output.sticks import stick_json

        settings.output(json).print_json(stick_json(stick))
    else:
        print(words)


def _say_what_now(path: Path) -> None:
    """Say what syncs the stick from now on: a running watcher has seen it already, and waits until it is plugged in again."""
    settings.output().print_remark(
        f"'sneaker sync {clean(str(path))}' syncs it now, 'sneaker watch' when it is plugged in again"
    )


@drive.command("list")
def list_(json: JsonOption = False) -> None:
    """List the sticks that are enrolled here."""
    with home() as opened:
        sticks = opened.store.sticks.sticks()
    if json:
        from sneaker.cli.json_output.sticks import stick_json

        settings.output(json).print_json({"drives": [stick_json(item) for item in sticks]})
    else:
        print("\n".join(_stick_words(item) for item in sticks) or "no stick is enrolled here; see 'sneaker drive init'")


@drive.command("info")
def info(path: StickArgument, json: JsonOption = False) -> None:
    """Show what is on a stick, without taking anything from it."""
    from sneaker.stick.info import describe
    from sneaker.stick.layout import base32

    with home() as opened:
        found = describe(opened, path)
        me = opened.keypair.public
    if json:
        from sneaker.cli.json_output.sticks import stick_info_json

        settings.output(json).print_json(stick_info_json(found))
        return
    print(f"stick     {base32(found.id)}, {'enrolled here' if found.enrolled else 'NOT enrolled here'}")
    print(f"bundles   {counted(len(found.bundles), 'file')}, {format_size(sum(item.bytes for item in found.bundles))}")
    print(f"free      {format_size(found.free_bytes)}")
    for card in found.cards:
        behind = f"lacks {counted(card.behind, 'message')} of what is here" if card.behind else "has all that is here"
        print(f"machine   {card.machine}, {'this one' if card.machine == me else behind}")
    if found.foreign:
        print(f"other     {counted(found.foreign, 'thing')} that sneaker leaves alone")


@drive.command("forget")
def forget(
    name: Annotated[str, typer.Argument(metavar="PATH|ID", help="Where the stick is, or its id from 'drive list'.")],
    json: JsonOption = False,
) -> None:
    """Stop using a stick here; what is on it stays."""
    from sneaker.stick.enrolment import forget as forget_stick
    from sneaker.stick.layout import from_base32
    from sneaker.stick.stick import Stick

    stick_id = from_base32(name, 16)
    if stick_id is None:
        with Stick(Path(name)) as stick:
            marker = stick.marker()
        if marker is None:
            raise StickError(f"{name} is neither a stick nor the id of one")
        stick_id = marker.stick_id
    with home() as opened:
        gone = forget_stick(opened, stick_id)
    _print_stick(gone, f"forgotten: {_stick_words(gone)}", json)


@drive.command("gc")
def gc(path: StickArgument, json: JsonOption = False) -> int:
    """Visit a stick, read own bundles again, and replace them by what is needed."""
    from sneaker.cli.sync import visit_stick

    return visit_stick(path, json, collect=True)
