"""The application object, its global options, and what every command starts with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sneaker import __version__
from sneaker.cli.commands import CommandGroup, command
from sneaker.cli.environment import default_home
from sneaker.cli.printing import Output

if TYPE_CHECKING:
    from sneaker.home.home import Home

__all__ = ["FeedArgument", "JsonOption", "Settings", "StickArgument", "app", "command", "home", "now_ms", "settings"]

app = typer.Typer(
    name="sneaker",
    cls=CommandGroup,
    help="Carry Secure Scuttlebutt feeds between machines that have no network.\n\n"
    "Start with 'sneaker init'. 'sneaker export' writes a bundle that you carry on a stick, 'sneaker import' takes one in. "
    "'sneaker demo' shows it all in a temporary folder.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts.")]
FeedArgument = Annotated[str, typer.Argument(metavar="FEED", help="A feed id: @...ed25519, or an ssb: URI.")]

StickArgument = Annotated[
    Path, typer.Argument(metavar="PATH", help="Where the stick is mounted, or any folder.", show_default=False)
]


@dataclass(slots=True)
class Settings:
    """The global options of this run."""

    home: Path = field(default_factory=Path)
    quiet: bool = False

    def output(self, json: bool = False) -> Output:
        """Return where a command prints to."""
        return Output(json, self.quiet)


settings = Settings()


def now_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@contextmanager
def home() -> Iterator[Home]:
    """Open the home for a command and close it afterwards."""
    from sneaker.home.config import load_config
    from sneaker.home.home import open_home

    with open_home(settings.home, load_config(settings.home).caps) as opened:
        yield opened


def _version(value: bool) -> None:
    if value:
        print(f"sneaker {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", help="The home to use; SNEAKER_HOME does the same.", show_default=False),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks on stderr.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    settings.home = home if home is not None else default_home()
    settings.quiet = quiet
