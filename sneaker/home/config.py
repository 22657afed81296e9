"""The settings of a home.

They stand in ``config.toml`` in the home.  Every setting has a default; unknown ones are an error, because a
misspelt one would otherwise be silently without effect.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from sneaker.caps import MAIN_NETWORK_KEY, Caps, parse_cap
from sneaker.errors import CapsError, ConfigError
from sneaker.refs import encode_base64
from sneaker.social import NEAR_HOPS

__all__ = [
    "CONFIG_NAME",
    "DEFAULT_MIN_FREE_BYTES",
    "DEFAULT_STALE_DAYS",
    "Config",
    "DeviceSettings",
    "InboxSettings",
    "NotifySettings",
    "PeerSettings",
    "StickSettings",
    "format_config",
    "load_config",
]

CONFIG_NAME = "config.toml"

# A machine whose card did not change for this long no longer counts on the stick.
DEFAULT_STALE_DAYS = 90
# What stays free on a stick: FAT behaves badly when it is full, and cards must always fit.
DEFAULT_MIN_FREE_BYTES = 4 * 1024 * 1024

# Room for all settings and many remarks. For a key with thousands of dots, tomllib takes quadratic time.
_MAX_CONFIG_BYTES = 64 * 1024
_MAX_CONFIG_LINE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """Section ``drives``: which devices 'watch' looks at, and what it has udisks2 do."""

    #: Types of file systems that may be sticks; None for the usual ones.
    filesystems: frozenset[str] | None = None
    #: Let udisks2 mount sticks that nothing else mounts, and unmount them after the visit.
    mount: bool = False
    unmount: bool = True
    power_off: bool = False


@dataclass(frozen=True, slots=True)
class InboxSettings:
    """Section ``inbox``: folders in which bundles arrive."""

    folders: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """Section ``notify``: how people are told. ``hook`` is a command as a list; see ``desktop.hook``."""

    desktop: bool = True
    bell: bool = False
    hook: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """Section ``peer``: how this machine meets others on a network."""

    #: Where to listen, "HOST:PORT"; None for all interfaces, and port 8008 or, if that is taken, another one.
    listen: str | None = None
    #: Find peers on the LAN, and be found.
    discovery: bool = True
    #: How far in the follow graph feeds are replicated.
    hops: int = NEAR_HOPS
    #: Addresses to stay connected to.
    connect: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StickSettings:
    """Section ``sticks``: how visits treat sticks; sizes in bytes, in the file also as texts like "500M"."""

    #: A machine whose card has not changed for so many days no longer counts on the stick.
    stale_days: int = DEFAULT_STALE_DAYS
    #: What stays free on a stick.
    min_free_bytes: int = DEFAULT_MIN_FREE_BYTES
    #: The most that one visit writes; None for what there is room for.
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one home; guide/settings.md says what each means."""

    caps: Caps = field(default_factory=Caps)
    drives: DeviceSettings = field(default_factory=DeviceSettings)
    inbox: InboxSettings = field(default_factory=InboxSettings)
    notify: NotifySettings = field(default_factory=NotifySettings)
    peer: PeerSettings = field(default_factory=PeerSettings)
    sticks: StickSettings = field(default_factory=StickSettings)


def load_config(home: Path) -> Config:
    """Read the settings of a home; raises ConfigError, naming the setting that is wrong."""
    path = home / CONFIG_NAME
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return Config()
    except NotADirectoryError:
        raise ConfigError(f"cannot read {path}: {home} is not a folder", hint="use another --home") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _MAX_CONFIG_BYTES:
        raise ConfigError(f"{path} is too large to be a configuration")
    if max(map(len, data.split(b"\n"))) > _MAX_CONFIG_LINE_BYTES:
        raise ConfigError(
            f"{path} has a line of more than {_MAX_CONFIG_LINE_BYTES} bytes", hint="break it into several"
        )
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except RecursionError:
        raise ConfigError(f"{path} cannot be read: it is nested too deeply") from None
    except ValueError as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not table:
        return Config()
    from sneaker.home.config_file import parse_table

    given = parse_table(table, path)
    drives, sticks = given.drives, given.sticks
    return Config(
        caps=_caps(given.network.key, given.network.hmac_key, path),
        drives=DeviceSettings(frozenset(drives.filesystems) or None, drives.mount, drives.unmount, drives.power_off),
        inbox=InboxSettings(tuple(_folder(name, path) for name in given.inbox.folders)),
        notify=NotifySettings(given.notify.desktop, given.notify.bell, given.notify.hook),
        peer=PeerSettings(given.peer.listen, given.peer.discovery, given.peer.hops, given.peer.connect),
        sticks=StickSettings(
            DEFAULT_STALE_DAYS if sticks.stale_days is None else sticks.stale_days,
            DEFAULT_MIN_FREE_BYTES if sticks.min_free is None else sticks.min_free,
            sticks.max_size,
        ),
    )


def _folder(name: str, path: Path) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ConfigError(f"{path}: inbox.folders: there is no home folder for {name!r}") from None


def _caps(key: str | None, hmac_key: str | None, path: Path) -> Caps:
    try:
        return Caps(
            MAIN_NETWORK_KEY if key is None else parse_cap(key), None if hmac_key is None else parse_cap(hmac_key)
        )
    except CapsError as error:
        raise ConfigError(f"{path}: network: {error.message}") from None


def format_config(config: Config) -> str:
    """Return the text of a new ``config.toml``."""
    lines = ["# Settings of this sneaker home. What is not here has its default; see guide/settings.md.", ""]
    if config.caps != Caps():
        lines += ["[network]", f'key = "{encode_base64(config.caps.network_key)}"']
        if config.caps.hmac_key is not None:
            lines.append(f'hmac_key = "{encode_base64(config.caps.hmac_key)}"')
        lines.append("")
    return "\n".join(lines)
