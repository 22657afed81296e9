"""What may stand in ``config.toml``: its sections, its settings, and what each takes.

Apart from ``config``, because msgspec takes its time to import and most homes set nothing.
"""

from __future__ import annotations

import typing
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sneaker.errors import ConfigError, UsageError
from sneaker.sizes import parse_size
from sneaker.social import NEAR_HOPS

__all__ = ["File", "parse_table"]

# Descriptions end the sentence "It takes ...".
Truth = Annotated[bool, Meta(description="true or false")]
Text = Annotated[str, Meta(pattern=r"^[^\x00]+\Z")]
Texts = Annotated[tuple[Text, ...], Meta(description='a list of texts such as ["one", "two"]')]
Cap = Annotated[str, Meta(description="32 bytes in base64")]
Hops = Annotated[int, Meta(ge=0, le=10, description="a whole number from 0 to 10")]
Days = Annotated[int, Meta(ge=1, le=36500, description="a whole number from 1 to 36500")]
Listen = Annotated[Text, Meta(description='a text such as "192.168.1.2:8008"')]
_SHOWN_CHARACTERS = 60


class SizeInBytes(int):
    """A size in bytes; in the file a number, or a text as options take it."""


Size = Annotated[SizeInBytes, Meta(description='a size such as 500_000 or "500M"')]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section of the file; what is None is not set."""


class Network(Section, frozen=True):
    key: Cap | None = None
    hmac_key: Cap | None = None


class Drives(Section, frozen=True):
    filesystems: Texts = ()
    mount: Truth = False
    unmount: Truth = True
    power_off: Truth = False


class Inbox(Section, frozen=True):
    folders: Texts = ()


class Notify(Section, frozen=True):
    desktop: Truth = True
    bell: Truth = False
    hook: Texts = ()


class Peer(Section, frozen=True):
    listen: Listen | None = None
    discovery: Truth = True
    hops: Hops = NEAR_HOPS
    connect: Texts = ()


class Sticks(Section, frozen=True):
    stale_days: Days | None = None
    min_free: Size | None = None
    max_size: Size | None = None


class File(Section, frozen=True):
    network: Network = Network()
    drives: Drives = Drives()
    inbox: Inbox = Inbox()
    notify: Notify = Notify()
    peer: Peer = Peer()
    sticks: Sticks = Sticks()


def parse_table(table: dict[str, Any], path: object) -> File:
    """Return the settings of a parsed file called ``path``; raises ConfigError with the setting and what is wrong with it."""
    _check_names(table, path)
    try:
        return msgspec.convert(table, File, dec_hook=_parse_size)
    except msgspec.ValidationError as error:
        setting = str(error).rpartition("`$.")[2].rstrip("`").partition("[")[0]
        section, _, name = setting.partition(".")
        value = repr(table[section][name])
        if len(value) > _SHOWN_CHARACTERS:
            value = value[: _SHOWN_CHARACTERS - 3] + "..."
        if section == "network":
            value = "what is there"  # a key of a closed network is a secret
        raise ConfigError(f"{path}: {setting} takes {_takes(section, name)}, not {value}") from None


def _check_names(table: dict[str, Any], path: object) -> None:
    sections = typing.get_type_hints(File)
    for name, section in table.items():
        if name not in sections:
            raise ConfigError(f"{path}: there is no setting {name!r}", hint=_nearest(name, sections))
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: {name} is not a section")
        settings = sections[name].__struct_fields__
        for setting in section:
            if setting not in settings:
                full = f"{name}.{setting}"
                raise ConfigError(f"{path}: there is no setting {full!r}", hint=_nearest(setting, settings))


def _nearest(name: str, names: typing.Iterable[str]) -> str | None:
    import difflib

    found = difflib.get_close_matches(name, names, 1)
    return f"did you mean {found[0]!r}?" if found else None


def _takes(section: str, name: str) -> str:
    """Return what a setting takes, in words."""
    hint = typing.get_type_hints(typing.get_type_hints(File)[section], include_extras=True)[name]
    for one in (hint, *typing.get_args(hint)):
        for meta in getattr(one, "__metadata__", ()):
            if meta.description:
                return str(meta.description)
    raise AssertionError(f"{section}.{name} does not say what it takes")


def _parse_size(kind: type, value: object) -> SizeInBytes:
    assert kind is SizeInBytes
    if isinstance(value, str):
        try:
            return SizeInBytes(parse_size(value))
        except UsageError as error:
            raise ValueError(error.message) from None
    if type(value) is not int or value < 0:
        raise ValueError("not a size")
    return SizeInBytes(value)
