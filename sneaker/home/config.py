"""The settings of a home.

They stand in ``config.toml`` in the home.  Every setting has a default; unknown ones are an error, because a
misspelt one would otherwise be silently without effect.
"""

from __future__ import annotations

import contextlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sneaker.caps import MAIN_NETWORK_KEY, Caps, parse_cap
from sneaker.errors import CapsError, ConfigError, UsageError
from sneaker.refs import encode_base64
from sneaker.sizes import parse_size
from sneaker.social import NEAR_HOPS

__all__ = [
    "CONFIG_NAME",
    "DEFAULT_MIN_FREE_BYTES",
    "DEFAULT_STALE_DAYS",
    "Config",
    "DriveSettings",
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
class DriveSettings:
    """Section ``drives``: which drives 'watch' looks at, and what it has udisks2 do."""

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
    drives: DriveSettings = field(default_factory=DriveSettings)
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
    network = _section(table, "network", {"key", "hmac_key"}, path)
    drives = _section(table, "drives", {"filesystems", "mount", "unmount", "power_off"}, path)
    inbox = _section(table, "inbox", {"folders"}, path)
    notify = _section(table, "notify", {"desktop", "bell", "hook"}, path)
    peer = _section(table, "peer", {"listen", "discovery", "hops", "connect"}, path)
    sticks = _section(table, "sticks", {"stale_days", "min_free", "max_size"}, path)
    if table:
        raise ConfigError(f"{path}: there is no setting {next(iter(table))!r}")
    return Config(
        caps=_caps(network, path),
        drives=_drives(drives, path),
        inbox=InboxSettings(tuple(_folder(name, path) for name in _texts(inbox, "inbox", "folders", path))),
        notify=NotifySettings(
            desktop=_truth(notify, "notify", "desktop", path, default=True),
            bell=_truth(notify, "notify", "bell", path, default=False),
            hook=tuple(_texts(notify, "notify", "hook", path)),
        ),
        peer=_peer(peer, path),
        sticks=_sticks(sticks, path),
    )


def _peer(section: dict[str, Any], path: Path) -> PeerSettings:
    listen, hops = section.get("listen"), section.get("hops", PeerSettings().hops)
    if listen is not None and not (isinstance(listen, str) and listen):
        raise ConfigError(f'{path}: peer.listen is not a text such as "192.168.1.2:8008"')
    if type(hops) is not int or not 0 <= hops <= 10:
        raise ConfigError(f"{path}: peer.hops is not a small number")
    return PeerSettings(
        listen=listen,
        discovery=_truth(section, "peer", "discovery", path, default=True),
        hops=hops,
        connect=tuple(_texts(section, "peer", "connect", path)),
    )


def _sticks(section: dict[str, Any], path: Path) -> StickSettings:
    default = StickSettings()
    days = section.get("stale_days", default.stale_days)
    if type(days) is not int or not 1 <= days <= 36500:
        raise ConfigError(f"{path}: sticks.stale_days is not a number of days")
    min_free = _size(section, "sticks", "min_free", path)
    return StickSettings(
        stale_days=days,
        min_free_bytes=default.min_free_bytes if min_free is None else min_free,
        max_bytes=_size(section, "sticks", "max_size", path),
    )


def _size(section: dict[str, Any], name: str, key: str, path: Path) -> int | None:
    """Read a size: a number of bytes, or text as options take it; None if it is not set."""
    value = section.get(key)
    if value is None:
        return None
    if isinstance(value, str):
        with contextlib.suppress(UsageError):
            return parse_size(value)
    elif type(value) is int and value >= 0:
        return value
    raise ConfigError(f'{path}: {name}.{key} is not a size such as 500_000 or "500M"')


def _drives(section: dict[str, Any], path: Path) -> DriveSettings:
    return DriveSettings(
        filesystems=frozenset(_texts(section, "drives", "filesystems", path)) or None,
        mount=_truth(section, "drives", "mount", path, default=False),
        unmount=_truth(section, "drives", "unmount", path, default=True),
        power_off=_truth(section, "drives", "power_off", path, default=False),
    )


def _truth(section: dict[str, Any], name: str, key: str, path: Path, *, default: bool) -> bool:
    value = section.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{path}: {name}.{key} is neither true nor false")
    return value


def _texts(section: dict[str, Any], name: str, key: str, path: Path) -> list[str]:
    value = section.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item and "\0" not in item for item in value):
        raise ConfigError(f'{path}: {name}.{key} is not a list of texts such as ["one", "two"]')
    return value


def _folder(name: str, path: Path) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ConfigError(f"{path}: inbox.folders: there is no home folder for {name!r}") from None


def _section(table: dict[str, Any], name: str, known: set[str], path: Path) -> dict[str, Any]:
    section = table.pop(name, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: {name} is not a section")
    unknown = set(section) - known
    if unknown:
        setting = f"{name}.{min(unknown)}"
        raise ConfigError(f"{path}: there is no setting {setting!r}")
    return section


def _caps(network: dict[str, Any], path: Path) -> Caps:
    try:
        key = parse_cap(str(network["key"])) if "key" in network else MAIN_NETWORK_KEY
        hmac_key = parse_cap(str(network["hmac_key"])) if "hmac_key" in network else None
    except CapsError as error:
        raise ConfigError(f"{path}: network: {error.message}") from None
    return Caps(key, hmac_key)


def format_config(config: Config) -> str:
    """Return the text of a new ``config.toml``."""
    lines = ["# Settings of this sneaker home. What is not here has its default; see guide/settings.md.", ""]
    if config.caps != Caps():
        lines += ["[network]", f'key = "{encode_base64(config.caps.network_key)}"']
        if config.caps.hmac_key is not None:
            lines.append(f'hmac_key = "{encode_base64(config.caps.hmac_key)}"')
        lines.append("")
    return "\n".join(lines)
