"""doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sneaker.caps import Caps
from sneaker.cli.app import JsonOption, command, now_ms, settings
from sneaker.cli.show import clean, counted
from sneaker.config import default_memory, load_config
from sneaker.errors import ConfigError, ExitCode, ForkError, HomeMissing, SneakerError, UsageError

if TYPE_CHECKING:
    from sneaker.exchange.doctor import Finding, ForkedPlace, OwnFeed
    from sneaker.feed.message import Message

__all__: list[str] = []


@command()
def doctor(
    dismiss: Annotated[
        bool,
        typer.Option(
            "--dismiss",
            help="Let what others merely claim about your feed count no more. If they are right, publishing forks it.",
        ),
    ] = False,
    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            min=0,
            metavar="N",
            help="Your message N, the last one here, is the last one that you ever published, on any machine: go on from it."
            " If that is wrong, your next message forks your feed for good.",
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Say what is wrong here, and whether your feed is forked.

    Ends with exit code 3 if something needs attention. Changes nothing, unless --dismiss or --last is given.
    """
    from sneaker.cli.hook import hook_problem
    from sneaker.exchange.doctor import Finding, Level, error_finding, examine, examine_folder, own_feed, own_feed_json
    from sneaker.exchange.home import open_home
    from sneaker.exchange.publish import check_may_publish
    from sneaker.exchange.standing import Standing

    findings: list[Finding] = []
    own: OwnFeed | None = None
    dismissed = 0
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
            standing = Standing(opened, default_memory())
            standing.recall()
            if dismiss:
                dismissed = opened.store.dismiss_claims(opened.keypair.public)
            if last is not None:
                check_may_publish(opened.store, opened.keypair.public)
                standing.declare_last(last)
            own = own_feed(opened, standing.doubt())
            findings += examine(opened, own, now_ms=now_ms())
    except (HomeMissing, UsageError, ForkError):
        raise
    except SneakerError as error:
        findings += [error_finding(error), *examine_folder(settings.home)]
    attention = any(finding.level == "problem" for finding in findings)
    output = settings.output(json)
    value = {
        "home": str(settings.home),
        "id": str(own.feed) if own is not None else None,
        "own_feed": own_feed_json(own) if own is not None else None,
        "dismissed": dismissed,
        "findings": [finding.as_json() for finding in findings],
        "attention": attention,
    }
    output.data(value, "\n".join([*_own_lines(own, dismissed), *_finding_lines(findings)]))
    return ExitCode.PARTIAL if attention else ExitCode.DONE


def _own_lines(own: OwnFeed | None, dismissed: int) -> list[str]:
    if own is None:
        return ["am I forked?  that cannot be said: the home does not open"]
    held = counted(own.seen.held, "message")
    answers = {
        "fine": f"no: {held} here, and nobody near you has shown or claimed more, or another one",
        "behind": f"not yet, but publishing now would do it: {held} here, others have more",
        "forked": f"YES: {held} here, and another machine wrote others in their place",
        "adopted": f"not known: {held} here, and the identity may have published more where it came from",
        "moved": f"not known: {held} here, and this home is a copy, or was somewhere else before",
        "shared": f"not known: {held} here, and another machine has your secret",
    }
    lines = [f"your feed     {own.feed}", f"am I forked?  {answers[own.state]}"]
    if own.last is not None:
        lines.append(f"last message  {own.seen.held:,}, {_when(own.last)}: {_said(own.last)}")
    if dismissed:
        lines.append(f"dismissed     {counted(dismissed, 'claim')}")
    for claim in [claim for claim in own.claims if claim.counts][:20]:
        source = (
            "a list or log that you gave"
            if claim.source is None
            else "yourself, earlier"
            if claim.source == own.feed
            else str(claim.source)
        )
        state = ", dismissed" if claim.dismissed else ""
        lines.append(f"claimed       up to {claim.sequence:,} by {source}{state}")
    for place in own.forks[:5]:
        lines += _fork_lines(place)
    return lines


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
    from sneaker.exchange.doctor import day

    return f"of {day(message.timestamp)}" if isinstance(message.timestamp, int | float) else "of no known day"


def _finding_lines(findings: list[Finding]) -> list[str]:
    if not findings:
        return ["nothing else is wrong here"]
    lines: list[str] = []
    for finding in findings:
        lines += ["", f"{finding.level}: {clean(finding.message, 500)}"]
        if finding.hint:
            lines.append(f"  {clean(finding.hint, 500)}")
    return lines
