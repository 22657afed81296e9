"""What a feed format is: one object that knows how messages of such feeds are written, signed, kept and printed.

Nothing outside of ``feed`` knows a format's rules.  What all formats share is in ``message`` (what a message is), ``chain``
(what follows what) and ``run``; which formats there are is in ``formats``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from sneaker.feed.content import FactsReader
from sneaker.feed.message import Compact, Message
from sneaker.keys import verify_signature
from sneaker.refs import FeedRef, MessageRef

__all__ = ["FeedFormat", "SignatureCheck"]

#: (public key, signature, what was signed)
SignatureCheck = tuple[bytes, bytes, bytes]


class FeedFormat(ABC):
    """One feed format.  All methods raise InvalidMessage with the reason for what breaks the format's rules.

    A message is valid by itself if it was parsed or expanded; that it follows another one is for ``chain``, and that its
    author signed it is told by ``signature_checks``.
    """

    #: The byte that such feeds are named with (``FeedRef.format``).
    byte: ClassVar[int]
    #: A message that comes in this form or a higher one may be kept in another form here: ``compact`` makes it anew.
    first_foreign_form: ClassVar[int] = 1 << 62

    @abstractmethod
    def parse(self, raw: bytes | str) -> Message:
        """Read one message as it travels alone, in any spelling that the format allows."""

    @abstractmethod
    def read_log_value(self, value: dict[str, Any], outer: dict[str, Any], is_quick: bool) -> Message:
        """Read a message out of a log: ``value`` is the message as JSON has it, ``outer`` the object around it.

        ``is_quick`` is what ``canonical_value`` wants to know of JSON that was parsed.
        """

    def read_changed_value(
        self, value: dict[str, Any], wrappings: Sequence[dict[str, Any]], is_quick: bool, hmac_key: bytes | None
    ) -> Message:
        """Read a message out of a log whose program may have changed it, as programs do that open private messages.

        ``wrappings`` are the objects around ``value``, the outermost first; ``hmac_key`` is that of the network.
        """
        return self.read_log_value(value, wrappings[-1] if wrappings else {}, is_quick)

    @abstractmethod
    def log_json(self, message: Message) -> bytes:
        """Return what a log says of a message beside its key and timestamp, as members of a JSON object: ``"value":{...}``.

        ``read_log_value`` makes the same message of it.
        """

    @abstractmethod
    def compact(self, message: Message) -> Compact:
        """Return the form in which a message is kept, from which ``expand`` makes it again byte for byte."""

    @abstractmethod
    def expand(self, author: FeedRef, sequence: int, previous: MessageRef | None, compact: Compact) -> Message:
        """Return the message that ``compact`` stands for at this place of a feed; valid as if it had been parsed."""

    @abstractmethod
    def expand_run(
        self, author: FeedRef, first: int, previous: MessageRef | None, compacts: Sequence[Compact]
    ) -> list[Message]:
        """Do so with consecutive messages; the list ends before the first one that is invalid, and nothing is raised."""

    @abstractmethod
    def signature_checks(self, messages: Sequence[Message], hmac_key: bytes | None) -> list[SignatureCheck]:
        """Return one check for each message of one author; if it passes, the message is signed as it should be.

        ``hmac_key`` is that of the network, if it has one.
        """

    @abstractmethod
    def facts_reader(self, reader: FactsReader) -> FactsReader:
        """Return what reads the facts of such messages, where ``reader`` reads those of classic ones."""

    def is_signed(self, message: Message, hmac_key: bytes | None) -> bool:
        """Say whether a message is signed as it should be."""
        (check,) = self.signature_checks((message,), hmac_key)
        return verify_signature(*check)
