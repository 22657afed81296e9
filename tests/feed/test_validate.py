from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sneaker.errors import InvalidMessage
from sneaker.feed.classic.compact import KIND_RAW, compact, expand, expand_run, kind_of
from sneaker.feed.classic.message import create_message, signed_bytes, signed_text
from sneaker.feed.classic.validate import parse_message
from sneaker.feed.formats import CLASSIC_FORMAT
from sneaker.feed.message import Head, Message
from sneaker.keys import verify_signature
from sneaker.refs import encode_base64
from tests.feed.forge import forge_many, seeded
from tests.feed.vectors import judge, keypair, load
from tests.tries import amount, tries

MESSAGES = load("messages.json")["cases"]
FEED = load("feed.json")
REAL = load("go-ssb-legacy-dev.jsonl")


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case["name"])
def test_message_vectors(case: dict[str, Any]) -> None:
    result = judge(case["raw"], case["state"], case["hmacKey"])
    expected = case["ssbValidate"]
    assert isinstance(result, Message) == expected["valid"], result
    if isinstance(result, Message):
        assert str(result.key) == case["id"]
        assert len(result.text.decode().encode("utf-16-le")) == 2 * case["canonicalLength"]
        assert len(result.text) == case["canonicalUtf8Bytes"]
        assert judge(result.text, case["state"], case["hmacKey"]) == result


REASONS = {
    "order previous last": "fields-invalid",
    "extra field in front": "fields-invalid",
    "order missing hash": "fields-invalid",
    "first message with previous": "previous-invalid",
    "first message sequence 2": "previous-invalid",
    "first message sequence 0": "sequence-invalid",
    "first message sequence string": "sequence-invalid",
    "later wrong previous": "forked",
    "later previous null": "previous-invalid",
    "later sequence gap": "waiting",
    "later sequence repeat": "forked",
    "sequence above int32": "sequence-invalid",
    "timestamp string on first": "timestamp-invalid",
    'hash "SHA256"': "hash-invalid",
    "author short": "author-invalid",
    "author other key": "signature-invalid",
    "signature without suffix": "signature-malformed",
    "content changed after signing": "signature-invalid",
    "plain expected but hmac signature": "signature-invalid",
    "hmac key too short": "hmac-key-invalid",
    "content type 2 chars": "content-type",
    "content type 53 chars": "content-type",
    "content array": "content-invalid",
    "content null": "content-invalid",
    'content string "AAAA.sbox"': "content-invalid",
    "size 8193 units": "too-long",
    "size indentation counts, too long": "too-long",
    'raw "str"': "not-a-message",
    "raw []": "not-a-message",
    "raw {}": "author-invalid",
}


@pytest.mark.parametrize(("name", "reason"), REASONS.items())
def test_refusals_have_stable_reasons(name: str, reason: str) -> None:
    (case,) = [case for case in MESSAGES if case["name"] == name]
    assert judge(case["raw"], case["state"], case["hmacKey"]) == reason


def test_feed_vector_is_made_again_byte_for_byte() -> None:
    pair = keypair(FEED["keys"])
    state: dict[str, Any] | None = None
    for case in FEED["messages"]:
        message = judge(case["text"], state, None)
        assert isinstance(message, Message), message
        assert message.text.decode() == case["text"]
        assert str(message.key) == case["key"]
        assert pair.sign(signed_bytes(message.text)) == message.signature
        assert json.loads(signed_text(message.text)) == {
            key: value for key, value in json.loads(case["text"]).items() if key != "signature"
        }
        state = {"sequence": message.sequence, "id": str(message.key)}
    assert state is not None
    assert state["sequence"] == 60


def test_a_real_feed() -> None:
    messages: list[Message] = []
    state: dict[str, Any] | None = None
    for case in REAL:
        message = judge(case["text"], state, None)
        assert isinstance(message, Message), message
        assert message.text.decode() == case["text"]
        assert (message.sequence, str(message.key)) == (case["sequence"], case["key"])
        state = {"sequence": message.sequence, "id": str(message.key)}
        messages.append(message)
    compacts = [compact(message) for message in messages]
    assert all(kind_of(item.form) != KIND_RAW for item in compacts)
    assert expand_run(messages[0].author, 1, None, compacts) == messages


DATASET = "ssb-validation-dataset@1.2.1"


@pytest.fixture(scope="module")
def dataset(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """The published data set. Its licence is AGPL-3.0, so it is installed when wanted, and never part of this tree."""
    folder = request.config.cache.mkdir("ssb-validation-dataset")
    data = folder / "node_modules" / "ssb-validation-dataset" / "data.json"
    if not data.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed")
        command = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-save", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run([*command, DATASET], capture_output=True, text=True, check=False, timeout=90)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm install {DATASET} took too long")
        if done.returncode or not data.exists():
            pytest.skip(f"npm install {DATASET} failed: {done.stderr.strip()[-200:]}")
    cases: list[dict[str, Any]] = json.loads(data.read_text("utf-8"))
    return cases


@pytest.mark.node
def test_ssb_validation_dataset(dataset: list[dict[str, Any]]) -> None:
    assert len(dataset) == 126
    wrong = []
    for number, case in enumerate(dataset):
        key = case["hmacKey"]
        result = judge(json.dumps(case["message"]), case["state"], key if key is None or isinstance(key, str) else "no")
        if isinstance(result, Message) != case["valid"] or (
            isinstance(result, Message) and str(result.key) != case["id"]
        ):
            wrong.append((number, result, case))
    assert wrong == []


# ---- signatures


def chain(count: int, author: int = 1, hmac_key: bytes | None = None) -> list[Message]:
    messages: list[Message] = []
    head: Head | None = None
    for number in range(count):
        content = {"type": "post", "text": f"message {number}"}
        message = create_message(seeded(author), head, 1_600_000_000_000 + number, content, hmac_key)
        head = Head(message.sequence, message.key)
        messages.append(message)
    return messages


def test_hmac_key_is_part_of_the_signature() -> None:
    key = bytes(range(32))
    (message,) = chain(1, hmac_key=key)
    assert CLASSIC_FORMAT.is_signed(message, key)
    assert not CLASSIC_FORMAT.is_signed(message, None)
    assert not CLASSIC_FORMAT.is_signed(message, bytes(32))
    assert verify_signature(message.author.key, message.signature, signed_bytes(message.text, key))
    assert not CLASSIC_FORMAT.is_signed(chain(1)[0], key)


def test_previous_may_be_wrapped_as_javascript_compares_it() -> None:
    # ["%id"] == "%id" in JavaScript, and ssb-validate compares that way.
    one, two = chain(2)
    pair = seeded(1)
    text = signed_text(two.text).decode().replace(f'"{one.key}"', f'[\n    "{one.key}"\n  ]')
    signature = encode_base64(pair.sign(text.encode()))
    raw = f'{text[:-2]},\n  "signature": "{signature}.sig.ed25519"\n}}'
    message = judge(raw, {"sequence": 1, "id": str(one.key)}, None)
    assert isinstance(message, Message)
    assert message.previous == one.key
    assert message.text.decode() == raw
    small = compact(message)
    assert kind_of(small.form) == KIND_RAW
    assert expand(message.author, 2, one.key, small) == message


# ---- whatever arrives


@tries(500)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_message_or_our_error(raw: bytes) -> None:
    with pytest.raises(InvalidMessage):
        parse_message(raw)


@tries(500)
@given(st.data())
def test_any_damage_gives_a_message_or_our_error(data: st.DataObject) -> None:
    raw = bytearray(REAL[data.draw(st.integers(0, 20))]["text"].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        how = data.draw(st.integers(0, 2))
        if how == 0:
            raw[at] = data.draw(st.integers(0, 255))
        elif how == 1:
            del raw[at : at + data.draw(st.integers(1, 40))]
        else:
            raw[at:at] = data.draw(st.binary(max_size=10))
    try:
        message = parse_message(bytes(raw))
    except InvalidMessage:
        return
    assert parse_message(message.text) == message
    assert CLASSIC_FORMAT.is_signed(message, None) in (True, False)
    assert expand(message.author, message.sequence, message.previous, compact(message)) == message


def test_forged_messages_give_a_message_or_our_error() -> None:
    for case in forge_many(77, amount(quick=300, thorough=1500)):
        result = judge(case.raw, case.state, None)
        if isinstance(result, Message):
            assert parse_message(result.text) == result
