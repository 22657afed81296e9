"""doctor: what is wrong here, and the person's word that settles it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.caps import Caps
from sneaker.cli.app import JsonOption, command, now_ms, settings
from sneaker.cli.environment import default_memory
from sneaker.cli.printing import clean, counted, warn_of_memory_problem
from sneaker.errors import ConfigError, ExitCode, HomeMissing, SneakerError, UsageError
from sneaker.home.config import load_config

if TYPE_CHECKING:
    from sneaker.cli.json_output.home import DoctorJson, LastMessageJson
    from sneaker.doctor.finding import Finding
    from sneaker.doctor.own_feed import ForkedPlace, OwnFeed
    from sneaker.feed.message import Message
    from sneaker.store.rows import Claim
    from sneaker.store.store import Store

__all__: list[str] = []


@command()
def doctor(
    dismiss: Annotated[
        bool,
        typer.Option(
            "--dismiss",
            help="Ignore from now on what others claim about your feed. If they are right, publishing forks it."
            " You are asked once more; what you signed yourself still counts.",
        ),
    ] = False,
    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            min=0,
            metavar="N",
            help="Your message N, the last one here, is the last one that you ever published, on any machine: go on from it."
            " If that is wrong, your next message forks your feed for good. You are asked once more.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --last or --dismiss: do not ask, for scripts.")] = False,
    json: JsonOption = False,
) -> int:
    """Say what is wrong here, and whether your feed is forked.

    Ends with exit code 3 if something needs attention. Changes nothing, unless --dismiss or --last is given; with --last it
    shows that message, asks whether it is the newest one that there is, and wants its number typed; with --dismiss, too.
    """
    from sneaker.desktop.hook import hook_problem
    from sneaker.doctor.examine import examine
    from sneaker.doctor.finding import Finding, Level, error_finding
    from sneaker.doctor.home_folder import examine_folder
    from sneaker.doctor.own_feed import own_feed
    from sneaker.home.home import open_home
    from sneaker.own_feed.fork_guard import ForkGuard

    if last is not None:
        return _go_on_from(last, yes=yes, dismiss=dismiss, json=json)
    findings: list[Finding] = []
    own: OwnFeed | None = None
    dismissed = 0 if dismiss else None
    try:
        config = load_config(settings.home)
        caps = config.caps
        if config.notify.hook and (problem := hook_problem(settings.home, config.notify.hook)) is not None:
            findings.append(Finding("hook-refused", Level.PROBLEM, *problem))
    except ConfigError as error:
        findings.append(error_finding(error))
        caps = Caps()
    try:
        opened = open_home(settings.home, caps)
        with opened.store:
            guard = ForkGuard(opened, default_memory())
            guard.recall_forgotten(now_ms)
            own = own_feed(opened, guard.doubt())
            if dismiss and (dismissed := _dismiss(opened.store, own, yes=yes)):
                own = own_feed(opened, guard.doubt())
            findings += examine(opened, own, now_ms=now_ms(), memory_problem=guard.memory.probe())
    except (HomeMissing, UsageError):
        raise
    except SneakerError as error:
        findings += [error_finding(error), *examine_folder(settings.home)]
    attention = any(finding.level == "problem" for finding in findings)
    if json:
        from sneaker.cli.json_output.home import finding_json, own_feed_json

        value: DoctorJson = {
            "home": str(settings.home),
            "id": str(own.feed) if own is not None else None,
            "own_feed": own_feed_json(own) if own is not None else None,
            "dismissed": dismissed or 0,
            "findings": [finding_json(finding) for finding in findings],
            "attention": attention,
        }
        settings.output(json).print_json(value)
    else:
        print("\n".join([*_own_lines(own, dismissed), *_finding_lines(findings)]))
    return ExitCode.PARTIAL if attention else ExitCode.DONE


def _go_on_from(last: int, *, yes: bool, dismiss: bool, json: bool) -> int:
    """Take the person's word that message ``last`` is the last one; show that message and ask once more."""
    from sneaker.cli.app import home
    from sneaker.doctor.own_feed import own_feed
    from sneaker.own_feed.fork_guard import ForkGuard, check_may_publish

    with home() as opened:
        me, store = opened.keypair.public, opened.store
        guard = ForkGuard(opened, default_memory())
        guard.recall_forgotten(now_ms)
        if dismiss:
            _dismiss(store, own_feed(opened), yes=yes)
        check_may_publish(store, me)
        guard.check_last(last)
        if not yes:
            _ask(last, store.message(me, last) if last else None)
        guard.declare_last(last, now_ms())
        warn_of_memory_problem(guard.memory.problem)
    if json:
        value: LastMessageJson = {"home": str(settings.home), "id": str(me), "last": last}
        settings.output(json).print_json(value)
    elif last:
        print(f"noted: you go on from message {last:,}")
    else:
        print("noted: nothing was published with this identity before")
    return ExitCode.DONE


def _dismiss(store: Store, own: OwnFeed, *, yes: bool) -> int:
    """Dismiss what others claim, unless something else shows that there is more; return how many claims counted.

    Raises UsageError if the person is asked (not with ``yes``) and does not want that.
    """
    if not own.may_dismiss:
        return 0
    if not yes:
        said = "\n".join(f"    up to message {claim.sequence:,}: {_source(own, claim)}" for claim in own.stopping[:20])
        here = f"message {own.seen.held:,} is the last one here" if own.seen.held else "no message of yours is here"
        _want_number(
            "--dismiss",
            f"It is said that your feed goes on, and {here}:\n\n{said}\n\n"
            "If that is right, your next message forks your feed, and that cannot be mended.\n"
            "If you are certain that no such messages exist, type the number of the last one here; to stop, press Enter: ",
            own.seen.held,
        )
    return store.claims.dismiss_claims(own.feed)


def _ask(last: int, message: Message | None) -> None:
    """Ask on the terminal whether ``message`` is the newest one; raises UsageError if it is not, or there is no terminal."""
    if message is not None:
        question = (
            f"The last message of yours that is here is of {_when(message)}:\n\n    {_said(message)}\n\n"
            "Is that the newest one also in the program that you used before, and on every machine that uses this identity?\n"
            "If there is a newer one, your next message forks your feed, and that cannot be mended.\n"
            "To go on, type the number of this message; to stop, press Enter: "
        )
    else:
        question = (
            "No message of yours is here. Was nothing ever published with this identity, by any program on any machine?\n"
            "If there is a message, your next one forks your feed, and that cannot be mended.\n"
            "To go on, type the number of messages that there are; to stop, press Enter: "
        )
    _want_number("--last", question, last)


def _want_number(option: str, question: str, number: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"'{option}' asks once more whether that is so, and here is nobody to answer",
            hint="run it on a terminal; for scripts that know the answer: --yes",
        )
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().replace(",", "") != str(number):
        raise UsageError("nothing was changed", hint="bring the newer messages here first, then ask again")


def _own_lines(own: OwnFeed | None, dismissed: int | None) -> list[str]:
    if own is None:
        return ["am I forked?  that cannot be said: the home does not open"]
    held = counted(own.seen.held, "message")
    answers = {
        "fine": f"no: {held} here, and nobody near you has shown or claimed more, or another one",
        "behind": f"not yet, but publishing now would do it: {held} here, others have more",
        "forked": f"YES: {held} here, and another machine wrote others in their place",
        "adopted": f"not known: {held} here, and the identity may have published more where it came from",
        "exchanged": f"not known: {held} here, and the secret is not the one that this home was made with",
        "moved": f"not known: {held} here, and this home is a copy, or was somewhere else before",
        "shared": f"not known: {held} here, and another machine has your secret",
        "restored": f"not known: {held} here, and a stick knows this home in a later state",
    }
    lines = [f"your feed     {own.feed}", f"am I forked?  {answers[own.state]}"]
    if own.last is not None:
        lines.append(f"last message  {own.seen.held:,}, of {_when(own.last)}: {_said(own.last)}")
    if dismissed is not None:
        nothing = "nothing: no claim of others alone keeps you from publishing"
        lines.append(f"dismissed     {counted(dismissed, 'claim') if dismissed else nothing}")
    for claim in [claim for claim in own.claims if claim.counts][:20]:
        state = ", dismissed" if claim.dismissed else ""
        lines.append(f"claimed       up to {claim.sequence:,} by {_source(own, claim)}{state}")
    for place in own.forks[:5]:
        lines += _fork_lines(place)
    return lines


def _source(own: OwnFeed, claim: Claim) -> str:
    if claim.source is None:
        return "a list or log that you gave"
    return "yourself, earlier" if claim.source == own.feed else str(claim.source)


def _fork_lines(place: ForkedPlace) -> list[str]:
    ours = _shown(place.ours) if place.ours is not None else "nothing: the other one follows a message that is not here"
    theirs = _shown(place.theirs) if place.theirs is not None else str(place.fork.key)
    return [f"forked at     {place.sequence:,}", f"  here        {ours}", f"  elsewhere   {theirs}"]


def _shown(message: Message) -> str:
    return f"{message.key}  {_said(message)}"


def _said(message: Message) -> str:
    content = message.content
    return "(private)" if isinstance(content, str) else clean(str(content.get("text", content.get("type"))), 80)


def _when(message: Message) -> str:
    from sneaker.doctor.finding import day

    return day(message.timestamp) if isinstance(message.timestamp, int | float) else "no known day"


def _finding_lines(findings: list[Finding]) -> list[str]:
    if not findings:
        return ["nothing else is wrong here, as far as a glance shows; 'sneaker check' reads every message and blob"]
    lines: list[str] = []
    for finding in findings:
        lines += ["", f"{finding.level}: {clean(finding.message, 500)}"]
        if finding.hint:
            lines.append(f"  {clean(finding.hint, 500)}")
    return lines
