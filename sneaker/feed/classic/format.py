"""Classic feeds as a feed format; what its methods do is in the modules beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from sneaker.errors import InvalidMessage
from sneaker.feed.classic.compact import KIND_RAW, compact, expand, expand_run
from sneaker.feed.classic.javascript_json import format_json, parse_json
from sneaker.feed.classic.kept_originals import kept_originals
from sneaker.feed.classic.message import signed_bytes, signed_text
from sneaker.feed.classic.validate import ORDER, parse_message, read_message
from sneaker.feed.content import FactsReader
from sneaker.feed.format import FeedFormat, SignatureCheck
from sneaker.feed.message import Message
from sneaker.refs import CLASSIC

__all__ = ["ClassicFormat"]

_FIELDS = frozenset(ORDER)


class ClassicFormat(FeedFormat):
    """Feeds as every SSB program knows them."""

    byte = CLASSIC
    # What a carrier sends raw we may keep in compact form: every store has to keep the same form of a message.
    first_foreign_form = KIND_RAW << 1

    # The functions themselves: they are called for every message or run, and a method around them would cost time.
    compact = staticmethod(compact)
    expand = staticmethod(expand)
    expand_run = staticmethod(expand_run)
    parse = staticmethod(parse_message)

    def read_log_value(self, value: dict[str, Any], outer: dict[str, Any], is_quick: bool) -> Message:
        """Read a message out of a log, where it is as it was signed."""
        return read_message(value, is_quick)

    def read_changed_value(
        self, value: dict[str, Any], wrappings: Sequence[dict[str, Any]], is_quick: bool, hmac_key: bytes | None
    ) -> Message:
        """Return the message as it was signed, if that can be put together again, or else as it stands."""
        originals = kept_originals(value, wrappings)
        if originals or not _FIELDS.issuperset(value):
            for original in [*originals, {}]:
                restored = {name: original.get(name, value[name]) for name in value if name in _FIELDS}
                try:
                    message = read_message(restored, is_quick)
                except InvalidMessage:
                    continue
                if self.is_signed(message, hmac_key):
                    return message
        return read_message(value, is_quick)

    def log_json(self, message: Message) -> bytes:
        """Return the value, made from the signed text, so that whoever reads it can check the signature."""
        try:
            value = orjson.loads(message.text)
            compact = orjson.dumps(value)
            if orjson.dumps(value, option=orjson.OPT_INDENT_2) != message.text:
                raise ValueError("printed otherwise")
        except (ValueError, TypeError):
            compact = format_json(parse_json(message.text), indent=0).encode("utf-8")
        return b'"value":' + compact

    def signature_checks(self, messages: Sequence[Message], hmac_key: bytes | None) -> list[SignatureCheck]:
        """Return the author's signature over the text without it."""
        author = messages[0].author.key
        if hmac_key is None:
            return [(author, message[5], signed_text(message[6])) for message in messages]
        return [(author, message[5], signed_bytes(message[6], hmac_key)) for message in messages]

    def facts_reader(self, reader: FactsReader) -> FactsReader:
        """Return ``reader``."""
        return reader
