"""Makes ``sneaker/guide/json.md`` from the types in ``sneaker/cli/json_output``: what each command prints with ``--json``."""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from sneaker.cli.json_output import encoder, events, home, import_export, peers, sticks

PAGE = Path(__file__).parent.parent / "sneaker" / "guide" / "json.md"


class Result(NamedTuple):
    """A result of a command: its type, when it is printed, and whether there is one on each line."""

    shape: Any
    when: str = ""
    lines: bool = False


Clock = Annotated[dict[encoder.FeedId, int], "The clock: of each feed the last sequence that is here."]

#: Every command that takes --json, in the order of 'sneaker --help', and what it prints.
COMMANDS: dict[str, list[Result]] = {
    "init": [Result(home.HomeJson)],
    "id": [Result(home.IdJson)],
    "publish": [Result(encoder.MessageJson)],
    "follow": [Result(encoder.MessageJson)],
    "unfollow": [Result(encoder.MessageJson)],
    "block": [Result(encoder.MessageJson)],
    "unblock": [Result(encoder.MessageJson)],
    "log": [
        Result(encoder.MessageJson, lines=True),
        Result(encoder.NativeMessageJson, "for feeds of other formats", lines=True),
    ],
    "status": [Result(home.StatusJson), Result(home.StatusWithMissingJson, "with `--missing`")],
    "clock": [Result(Clock)],
    "export": [Result(import_export.ExportJson)],
    "import": [Result(import_export.ImportJson)],
    "inspect": [Result(import_export.InspectJson)],
    "verify": [Result(import_export.VerifyJson)],
    "check": [Result(home.CheckJson)],
    "drive init": [Result(sticks.StickJson)],
    "drive trust": [Result(sticks.StickJson)],
    "drive list": [Result(sticks.StickListJson)],
    "drive info": [Result(sticks.StickInfoJson)],
    "drive forget": [Result(sticks.StickJson)],
    "drive gc": [Result(sticks.VisitJson)],
    "sync": [Result(sticks.VisitJson)],
    "watch": [Result(events.Event, lines=True)],
    "run": [Result(events.Event, lines=True)],
    "setup": [Result(home.ChangedFilesJson), Result(home.FilesJson, "with `--print`")],
    "connect": [Result(peers.PeerSyncJson)],
    "once": [Result(peers.OnceJson)],
    "doctor": [Result(home.DoctorJson), Result(home.LastMessageJson, "with `--last N`")],
    "demo": [Result(home.DemoJson)],
}

INTRODUCTION = """\
# What `--json` prints

This page is made from the code (`scripts/make-json-contract`), and a test runs each command and compares.

A command prints one JSON object on one line of standard output, or one on each line where that is said. No field is left
out; what is not known is `null`. New fields may come with any version, so leave alone those that you do not know. Until
version 1.0 a field may also change its name, and the changelog says so.

Ids are printed as everywhere in SSB: a feed is `@...=.ed25519`, a message `%...=.sha256`, a blob `&...=.sha256`; a feed or
message of another format than classic is an `ssb:` URI.

Words for people and progress go to standard error, with `--json` too. The exit code says how the command ended: see
[exit codes](exit-codes.md).

"""


def is_shape(kind: Any) -> bool:
    """Say whether this is one of our types of objects."""
    return typing.is_typeddict(kind)


def fields(shape: Any) -> dict[str, tuple[Any, str]]:
    """Return the fields of an object in their order: the type, and what it means."""
    found = {}
    for name, hint in typing.get_type_hints(shape, include_extras=True).items():
        words = [item for item in getattr(hint, "__metadata__", ()) if isinstance(item, str)]
        found[name] = (hint, words[-1] if words else "")
    return found


def plain(hint: Any) -> tuple[Any, encoder.Form | encoder.OneOf | None]:
    """Return a type without what is said about it, and what is said about its values."""
    if typing.get_origin(hint) is not Annotated:
        return hint, None
    said = [item for item in hint.__metadata__ if isinstance(item, encoder.Form | encoder.OneOf)]
    inner, inner_said = plain(hint.__origin__)
    return inner, said[0] if said else inner_said


def members(hint: Any) -> tuple[Any, ...]:
    """Return what a union is made of; of another type only itself."""
    kind, _ = plain(hint)
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (hint,)


def words_of(hint: Any) -> str:
    """Return how the page calls a type."""
    options = members(hint)
    if len(options) > 1:
        return " or ".join(map(words_of, options))
    kind, said = plain(hint)
    if isinstance(said, encoder.OneOf):
        return ", ".join(f"`{value}`" if value else "empty" for value in said.values)
    if said is not None:
        return said.words
    if typing.get_origin(kind) is list:
        return f"list of {words_of(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) is dict:
        key, value = typing.get_args(kind)
        return f"object of {words_of(key)} to {words_of(value)}" if value is not object else "object"
    if is_shape(kind):
        return "object"
    return {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}[kind]


def rows(shape: Any, page: dict[int, str], path: str = "") -> Iterator[str]:
    """Yield the rows of a table: the fields of an object, and those of the objects in it that have no heading of their own."""
    for name, (hint, meaning) in fields(shape).items():
        inner = next(option for option in members(hint) if option is not type(None))
        kind, _ = plain(inner)
        is_list = typing.get_origin(kind) is list
        item = plain(typing.get_args(kind)[0])[0] if is_list else kind
        where = f"{path}{name}{'[]' if is_list else ''}"
        yield f"| `{path}{name}` | {words_of(hint)} | {meaning} |"
        if is_shape(item) and id(item) not in page:
            yield from rows(item, page, f"{where}.")


def table(shape: Any, page: dict[int, str], but: Any = None) -> str:
    """Return the table of an object's fields, less those of ``but``."""
    known = set(rows(but, page)) if but is not None else set()
    new = [row for row in rows(shape, page) if row not in known]
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *new])


def describe(shape: Any, page: dict[int, str], but: Any = None) -> str:
    """Return what a result is, in words and as a table."""
    options = members(shape)
    if len(options) > 1:  # events
        parts = []
        for option in options:
            event = plain(fields(option)["event"][0])[1]
            assert isinstance(event, encoder.OneOf)
            parts.append(f"### `{event.values[0]}`\n\n{option.__doc__}\n\n{table(option, page)}")
        return "\n\n".join(
            ["An object on each line. Its field `event` says what happened, and which other fields there are.", *parts]
        )
    kind, _ = plain(shape)
    if not is_shape(kind):
        return f"{shape.__metadata__[-1]}"
    return f"{kind.__doc__}\n\n{table(kind, page, but)}"


def page() -> str:
    """Return the text of the page."""
    shown: dict[int, str] = {}  # the results that stand under a heading of their own, by identity
    for command, results in COMMANDS.items():
        for result in results:
            shown.setdefault(id(plain(result.shape)[0]), command)
    parts = [INTRODUCTION + f"## Errors\n\n{describe(encoder.ErrorJson, shown)}"]
    done: dict[int, str] = {}
    for results, group in itertools.groupby(COMMANDS, key=lambda command: COMMANDS[command]):
        commands = list(group)
        text = [f"## {', '.join(f'`{command}`' for command in commands)}"]
        for result in results:
            key = id(plain(result.shape)[0])
            when = f"{result.when[0].upper()}{result.when[1:]}: " if result.when else ""
            if key in done:
                text.append(f"{when}{'Each line is' if result.lines else 'It is'} what `{done[key]}` prints.")
            else:
                first = results[0].shape
                extends = (
                    is_shape(first)
                    and first is not result.shape
                    and fields(first).items() <= fields(result.shape).items()
                )
                text.append(f"{when}{describe(result.shape, shown, first if extends else None)}")
            done.setdefault(key, commands[0])
        parts.append("\n\n".join(text))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
