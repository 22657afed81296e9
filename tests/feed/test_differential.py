"""Twenty-four thousand messages (1,200 of them in the quick profile), judged by us and by ssb-validate itself: the two never disagree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sneaker.errors import InvalidMessage
from sneaker.feed.classic.canonical import parse_canonical
from sneaker.feed.classic.compact import compact, expand, expand_run
from sneaker.feed.classic.javascript_json import utf16_units
from sneaker.feed.message import Message
from sneaker.refs import encode_base64
from tests.feed.forge import Forged, forge_many
from tests.feed.vectors import judge
from tests.js_oracle import Case, Oracle, Verdict, available
from tests.tries import amount

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]

REASON = available()
PER_SEED = amount(quick=150, thorough=3000)
OVERFLOW = re.compile("1e400|1e999|[0-9]{309}")


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with Oracle() as running:
        yield running


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
@pytest.mark.parametrize("seed", range(8))
def test_ssb_validate_agrees(oracle: Oracle, seed: int) -> None:
    cases = list(forge_many(seed, PER_SEED))
    verdicts = oracle.ask_all(map(question, cases))
    disagreements = []
    for case, verdict in zip(cases, verdicts, strict=True):
        complaint = compare(case, verdict)
        if complaint and OVERFLOW.search(case.raw) and verdict.canonical:
            # A number too large for a double is Infinity for ssb-validate when it arrives, and null for everybody
            # whom it passes the message on to. For us the canonical text, which has null, is the message.
            passed_on = replace(case, raw=verdict.canonical)
            complaint = compare(passed_on, oracle.ask(question(passed_on)))
        if complaint:
            disagreements.append((complaint, case.notes, case.raw[:600], case.state, verdict.error))
    assert disagreements[:3] == []
    valid = sum(verdict.valid for verdict in verdicts)
    # The generator still makes both kinds.
    assert PER_SEED / 4 < valid < PER_SEED * 3 / 4


def question(case: Forged) -> Case:
    return Case(case.raw, case.state, encode_base64(case.hmac_key) if case.hmac_key else None)


def compare(case: Forged, verdict: Verdict) -> str | None:
    """Return where we and the JavaScript disagree."""
    try:
        canonical: str | None = parse_canonical(case.raw)[1].decode()
    except InvalidMessage:
        canonical = None
    if (canonical is not None) != verdict.parsed or canonical != verdict.canonical:
        return f"canonical text {canonical!a} or {verdict.canonical!a}"
    ours = judge(case.raw, case.state, encode_base64(case.hmac_key) if case.hmac_key else None)
    if isinstance(ours, str):
        if not verdict.valid:
            return None
        return f"we say {ours}, ssb-validate says valid"
    if not verdict.valid:
        return "we say valid"
    return compare_message(case, ours, verdict)


def compare_message(case: Forged, message: Message, verdict: Verdict) -> str | None:
    if str(message.key) != verdict.key:
        return f"key {message.key} or {verdict.key}"
    if message.text.decode() != verdict.canonical:
        return "text of the message"
    if utf16_units(message.text.decode()) != verdict.length:
        return "length"
    small = compact(message)
    if expand(message.author, message.sequence, message.previous, small) != message:
        return "expand"
    if expand_run(message.author, message.sequence, message.previous, [small]) != [message]:
        return "expand_run"
    if not case.raw.isascii() or not case.raw.isprintable():
        try:
            raw = case.raw.encode("utf-8")
        except UnicodeEncodeError:
            return None
        if judge(raw, case.state, encode_base64(case.hmac_key) if case.hmac_key else None) != message:
            return "bytes"
    return None
