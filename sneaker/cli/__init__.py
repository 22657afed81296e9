"""The command line: the only place that prints."""

from __future__ import annotations

import gc
import itertools
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

from sneaker.errors import ExitCode, OutputError, SneakerError

__all__ = ["main"]

# Options that belong before the command, and that people put behind it.
_BEFORE_THE_COMMAND = {"--home": "--home DIR", "--quiet": "--quiet", "-q": "-q"}


# Two threads that do much in Python beside calls into libsodium (a peer's): with the usual 5 ms, every call that lets go of
# the interpreter would wait so long to get it back.
_SWITCH_INTERVAL_S = 0.0005

# Objects made before the collector looks for circles. Millions of small tuples pass by, and none of them is in one: with the
# usual 700 (2,000 in newer Pythons) and a large heap the looking took 4 us per message.
_COLLECT_AFTER = 50_000


# As a shell says it of a program that SIGPIPE ended.
_READER_GONE = 141


def main() -> NoReturn:
    """Run the command line and exit with a code that says how it went; never shows a traceback."""
    tune_interpreter()
    sys.exit(_run())


def tune_interpreter() -> None:
    """Set what holds for the whole process, once, at its start."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(_COLLECT_AFTER)
    gc.freeze()  # what Python itself has loaded stays


def _run() -> int:
    import typer

    from sneaker.cli.app import app
    from sneaker.cli.printing import Screen, clean

    # Typer brings its own copy of click, whose base of usage errors it does not export under a name.
    usage_error = typer.BadParameter.__mro__[1]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A lone surrogate or a terminal without UTF-8 must not end a command.
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = Screen(sys.stdout or _nowhere()), Screen(sys.stderr or _nowhere())
    try:
        result = app(standalone_mode=False, prog_name="sneaker")
        sys.stdout.flush()
        return result if isinstance(result, int) else ExitCode.DONE
    except SneakerError as error:
        _fail(error.code, error.message, error.hint)
        return error.exit_code
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        print("sneaker: stopped; what was reported is kept", file=sys.stderr)
        return 130
    except (BrokenPipeError, SystemExit):  # click makes the first into the second
        _drop_output()  # whoever read our output is gone: 'sneaker log | head'
        return _READER_GONE
    except Exception as error:
        if isinstance(error, OSError) and getattr(sys.stdout, "has_failed", False):
            _drop_output()
            reason = clean(error.strerror or str(error))
            hint = "the command may have done its work all the same: look before you repeat it"
            _fail(OutputError.code, f"what the command prints cannot be written: {reason}", hint)
            return OutputError.exit_code
        if isinstance(error, usage_error):
            context = getattr(error, "ctx", None)
            if type(error).__name__ == "NoArgsIsHelpError":  # 'sneaker' alone: its message is the help, in many lines
                print(error.format_message(), file=sys.stderr)  # type: ignore[attr-defined]
                return ExitCode.USAGE
            where = context.command_path if context is not None else "sneaker"
            hint = f"run '{where} --help' to see what it takes"
            option = _BEFORE_THE_COMMAND.get(getattr(error, "option_name", ""))
            if option is not None:
                hint = f"it goes before the command: 'sneaker {option} {where.partition(' ')[2]}'"
            _fail("usage", error.format_message().rstrip("."), hint)  # type: ignore[attr-defined]
            return ExitCode.USAGE
        if os.environ.get("SNEAKER_DEBUG"):
            raise
        detail = clean(f"{type(error).__name__}: {error}")
        hint = "run it again with SNEAKER_DEBUG=1 and report what it prints"
        _fail("bug", f"this is a bug in sneaker: {detail}", hint)
        return ExitCode.BUG


def _fail(code: str, message: str, hint: str | None) -> None:
    """Say that the command failed: in words on stderr and, with ``--json``, as an object on stdout in place of its result."""
    from sneaker.cli.printing import Output, print_failure

    print_failure(message, hint)
    if _is_json_asked_for(sys.argv[1:]):
        from sneaker.cli.json_output.encoder import error_json

        try:
            Output(json=True).print_json(error_json(code, message, hint))
            sys.stdout.flush()
        except OSError:  # nobody reads it; standard error and the exit code say it, too
            _drop_output()


def _nowhere() -> TextIO:
    """Return what takes the place of a stream that the shell closed (``>&-``): Python has none then."""
    return open(os.devnull, "w", encoding="utf-8")


def _drop_output() -> None:
    """Keep Python from writing more to standard output, and from complaining at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _is_json_asked_for(arguments: Sequence[str]) -> bool:
    """Say whether ``--json`` is among the options: the command line may be what is wrong, so that nothing has parsed it."""
    options = itertools.takewhile(lambda argument: argument != "--", arguments)
    return "--json" in options
