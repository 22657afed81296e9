"""Where the home is, and the settings in it: the only module besides ``cli`` that reads the environment.

Settings stand in ``config.toml`` in the home.  Every setting has a default; unknown ones are an error, because a
misspelt one would otherwise be silently without effect.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sneaker.caps import MAIN_NETWORK_KEY, Caps, parse_cap
from sneaker.errors import CapsError, ConfigError
from sneaker.refs import encode_base64

__all__ = ["CONFIG_NAME", "Config", "default_home", "format_config", "load_config"]

CONFIG_NAME = "config.toml"
_MAX_CONFIG_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one home; see the README's table for what each means."""

    caps: Caps = field(default_factory=Caps)


def default_home() -> Path:
    """Return the home to use when ``--home`` is not given: ``SNEAKER_HOME``, else the platform's data folder."""
    given = os.environ.get("SNEAKER_HOME")
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_data_dir("sneaker", appauthor=False))


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
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    network = _section(table, "network", {"key", "hmac_key"}, path)
    if table:
        raise ConfigError(f"{path}: there is no setting {next(iter(table))!r}")
    return Config(caps=_caps(network, path))


def _section(table: dict[str, Any], name: str, known: set[str], path: Path) -> dict[str, Any]:
    section = table.pop(name, {})
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: {name} is not a section")
    unknown = set(section) - known
    if unknown:
        raise ConfigError(f"{path}: there is no setting {name}.{min(unknown)}")
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
    lines = ["# Settings of this sneaker home. The README lists them all; what is not here has its default.", ""]
    if config.caps != Caps():
        lines += ["[network]", f'key = "{encode_base64(config.caps.network_key)}"']
        if config.caps.hmac_key is not None:
            lines.append(f'hmac_key = "{encode_base64(config.caps.hmac_key)}"')
        lines.append("")
    return "\n".join(lines)
