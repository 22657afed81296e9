"""JSON objects out of a stream of bytes, whatever stands between them.

Programs print logs in many ways: an object to a line, indented over many lines, several on one line, as one array
(``jq -s``), with record separators (RFC 7464), in UTF-16 (a shell of Windows).  All of them are objects with white space,
commas, brackets or marks in between, and that is what is looked for.

What is broken costs itself and nothing more: a string never goes over the end of a line, so a torn line is noticed at
the next one; reading goes on at the next object that looks like one of a log, be it inside of the broken one.  Each byte
is looked at a fixed number of times, and no more than one object is kept.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from sneaker.errors import InvalidMessage
from sneaker.feed.classic.canonical import FAST_BYTES, parse_quickly

__all__ = ["JsonObject", "JsonStream", "NotJson", "looks_like_objects", "read_objects"]

_BOM = codecs.BOM_UTF8
# UTF-32 comes first: its little-endian mark begins as that of UTF-16 does.
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32-le", "replace"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "replace"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "surrogatepass"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "surrogatepass"),
)

# How much of what is broken is shown to the caller: enough for the fields before a message's content.
_HEAD_BYTES = 1024

_BETWEEN = re.compile(rb"(?:[ \t\r\n,\[\]\x1e]|\xef\xbb\xbf)*+")
_SPACE = re.compile(rb"[ \t\r\n]*+")
_IN_STRING = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrtu])*+')
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]*+")
# Where to go on after something broken: a line that begins with an object, or an object that begins as those of logs do.
# Junk can look like a million of them, so all of the first field has to be right, as far as it goes within these bounds:
# to pass over a byte costs a hundredth of what it takes to begin with an object and give it up.
_SOME_SPACE = rb"[ \t\r\n]{0,64}+"
_OPENING = rb"\{" + _SOME_SPACE + rb'"(?:key|value|previous|author|seq|timestamp)"' + _SOME_SPACE + rb":"
_CHARACTER = rb'(?:[^"\\\x00-\x1f]|\\["\\/bfnrtu])'
_SYMBOL = rb"[-+.0-9A-Za-z]"
_NEXT = _SOME_SPACE + rb"[,} \t\r\n]"
_FIRST_VALUE = b"|".join(
    [
        rb'"' + _CHARACTER + rb'{0,80}+(?:"' + _NEXT + rb"|" + _CHARACTER + rb")",
        _SYMBOL + rb"{1,80}+(?:" + _NEXT + rb"|" + _SYMBOL + rb")",
        rb"\{" + _SOME_SPACE + rb'["} \t\r\n]',
        rb"\[",
    ]
)
_LINE = rb"(?<=[\n\x1e])\{" + _SOME_SPACE + rb'"' + _CHARACTER + rb'{0,80}+"' + _SOME_SPACE + rb":"
_PLAUSIBLE = re.compile(rb"(?:" + _LINE + rb"|" + _OPENING + rb")" + _SOME_SPACE + rb"(?:" + _FIRST_VALUE + rb")")
_PLAUSIBLE_BYTES = 800

_START = re.compile(rb"\s*+(?:[\x1e\[,]\s*+)*+\{|[\s\S]*?" + _OPENING)
_LINE_ENDS = b" \t\r,"


class JsonObject(NamedTuple):
    """An object as ``parse_quickly`` returns it, and the line on which it begins."""

    value: dict[str, Any]
    is_quick: bool
    line: int


class NotJson(NamedTuple):
    """Something that is not a JSON object; ``head`` is how it begins, ``is_torn`` says that the stream ends in it."""

    head: bytes
    line: int
    detail: str
    is_torn: bool = False


def looks_like_objects(start: bytes) -> bool:
    """Say whether a stream that begins with ``start`` is one to read with ``JsonStream``."""
    for mark, name, _ in _ENCODINGS:
        if start.startswith(mark):
            start = start.removeprefix(mark).decode(name, "replace").encode("utf-8", "replace")
            break
    return _START.match(start.removeprefix(_BOM)) is not None


def read_objects(chunks: Iterable[bytes], limit: int) -> Iterator[JsonObject | NotJson]:
    """Yield what is in a stream; objects of more than ``limit`` bytes are not read."""
    stream = JsonStream(limit)
    for chunk in chunks:
        yield from stream.receive_data(chunk)
    yield from stream.close()


class JsonStream:
    """Takes bytes and gives objects; what it gives does not depend on how the bytes were cut.

    What ``receive_data`` and ``close`` return has to be gone through to its end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._decoder: codecs.IncrementalDecoder | None = None
        self._start: bytes | None = b""  # until the encoding is known
        # A line end in front, so that the first line begins behind one as all others do.
        self._buffer = bytearray(b"\n")
        self._at = 1
        self._closed = False
        self._line = 0
        self._counted = 0
        self._tried = 0  # up to here no object is taken at once
        self._broken = False  # what follows a broken object belongs to it
        self._skipping = False
        self._scan: _Scan | None = None

    def receive_data(self, data: bytes) -> Iterator[JsonObject | NotJson]:
        """Yield what is complete now."""
        if self._start is not None:
            self._start += data
            if len(self._start) < 4 and not self._closed:
                return
            data, self._start = self._start, None
            for mark, name, errors in _ENCODINGS:
                if data.startswith(mark):
                    self._decoder = codecs.getincrementaldecoder(name)(errors)
                    data = data[len(mark) :]
                    break
        if self._decoder is not None:
            # A lone surrogate becomes the escape that JSON has for it.
            data = self._decoder.decode(data).encode("utf-8", "backslashreplace")
        self._buffer += data
        found: list[JsonObject | NotJson] = []
        while self._step(found):
            # One by one: what is parsed and used at once stays in the processor's cache.
            yield from found
            found.clear()
        self._forget()

    def close(self) -> Iterator[JsonObject | NotJson]:
        """Yield what is left at the end of the stream."""
        self._closed = True
        yield from self.receive_data(b"")
        found: list[JsonObject | NotJson] = []
        while self._scan is not None:
            self._fail(found, len(self._buffer), "is torn off: it ends in the middle of an object", is_torn=True)
            while self._step(found):
                pass
        yield from found

    # -- one step; False if more data is needed

    def _step(self, found: list[JsonObject | NotJson]) -> bool:
        if self._scan is not None:
            return self._go_on(self._scan, found)
        if self._skipping:
            return self._skip()
        buffer = self._buffer
        self._at = at = _end(_BETWEEN.match(buffer, self._at))
        if at >= len(buffer):
            return False
        if buffer[at] == _OPEN:
            if not self._take_at_once(found, at):
                self._scan = _Scan(at)
            return True
        if not self._closed and _BOM.startswith(buffer[at : at + 3]):
            return False
        if not self._broken:
            found.append(NotJson(b"", self._line_at(at), "is not a message"))
        self._broken = self._skipping = True
        return True

    def _take_at_once(self, found: list[JsonObject | NotJson], at: int) -> bool:
        """Take an object that has its line, or its lines, for itself: the parser looks at it, and nobody else."""
        buffer, furthest = self._buffer, at + self._limit
        if at < self._tried:
            return False
        end = buffer.find(b"\n", at, furthest + 1)
        text = buffer[at:end].rstrip(_LINE_ENDS) if end > 0 else b""
        if text == b"{":
            end = buffer.find(b"\n}", end, furthest) + 2
            text = buffer[at:end] if end > 2 else b""
        try:
            value = orjson.loads(text)
        except ValueError:
            # Once for each place where it could end, or many objects on a long line would take long.
            self._tried = end if text else min(len(buffer), furthest)
            return False
        found.append(JsonObject(value, len(text) <= FAST_BYTES, self._line_at(at)))
        self._at, self._broken = end, False
        return True

    def _skip(self) -> bool:
        """Look for where to go on after something broken."""
        match = _PLAUSIBLE.search(self._buffer, self._at)
        if match is not None:
            self._at, self._skipping = match.start(), False
            # What follows an object that was found inside of a line may still belong to what is broken.
            self._scan = _Scan(self._at, resumed=self._buffer[self._at - 1] not in b"\n\x1e")
            return True
        if not self._closed:
            self._at = max(self._at, len(self._buffer) - _PLAUSIBLE_BYTES)
        return False

    def _go_on(self, scan: _Scan, found: list[JsonObject | NotJson]) -> bool:
        state = scan.go_on(self._buffer, scan.start + self._limit)
        if state is _MORE:
            return False
        if state is _BAD:
            too_long = scan.at >= scan.start + self._limit
            self._fail(found, scan.at, "is longer than any message" if too_long else "is broken")
            return True
        text = bytes(self._buffer[scan.start : scan.at])
        try:
            value, is_quick = parse_quickly(text)
        except InvalidMessage:
            self._fail(found, scan.at, "is not JSON")
            return True
        found.append(JsonObject(value, is_quick, self._line_at(scan.start)))
        self._at, self._scan = scan.at, None
        self._broken = scan.resumed
        return True

    def _fail(self, found: list[JsonObject | NotJson], end: int, detail: str, *, is_torn: bool = False) -> None:
        """Give up an object that is broken at ``end``, but not the objects in it that are whole."""
        scan, buffer = self._scan, self._buffer
        if scan is None:
            return
        head = bytes(buffer[scan.start : min(end, scan.start + _HEAD_BYTES)])
        found.append(NotJson(head, self._line_at(scan.start), detail, is_torn))
        for start, stop in scan.whole:
            if _PLAUSIBLE.match(buffer, start) is not None:
                with contextlib.suppress(InvalidMessage):
                    found.append(JsonObject(*parse_quickly(bytes(buffer[start:stop])), self._line_at(start)))
        # A string that ends where none should end began too early: in the line before.
        self._at = scan.string + 1 if scan.string > scan.start else max(end, scan.start + 1)
        self._scan, self._broken, self._skipping = None, True, True

    # -- the buffer

    def _line_at(self, at: int) -> int:
        self._line += self._buffer.count(b"\n", self._counted, at)
        self._counted = max(self._counted, at)
        return self._line

    def _forget(self) -> None:
        """Drop what is done with, but for one byte: whether a line begins here is seen from the byte before."""
        done = (self._scan.start if self._scan is not None else self._at) - 1
        if done < _FORGET_BYTES:
            return
        self._line_at(done)
        del self._buffer[:done]
        self._counted -= done
        self._at -= done
        self._tried -= done
        if self._scan is not None:
            self._scan.move(done)


# Dropping bytes moves those that stay.
_FORGET_BYTES = 64 * 1024

_OPEN, _CLOSE, _QUOTE, _BACKSLASH = b'{}"\\'
_LIST_OPEN, _LIST_CLOSE, _COLON, _COMMA = b"[]:,"

# What may come next in the object that is being read.
_KEY, _KEY_OR_END, _AFTER_KEY, _VALUE, _VALUE_OR_END, _AFTER_VALUE = range(6)

_MORE, _DONE, _BAD = "more", "done", "bad"


class _Scan:
    """Finds the end of the object that begins at ``start``, over as many calls as it takes."""

    __slots__ = ("at", "in_scalar", "in_string", "next", "open", "resumed", "start", "string", "whole")

    def __init__(self, start: int, *, resumed: bool = False) -> None:
        self.start = self.at = start
        self.resumed = resumed
        self.open: list[int] = []  # where each open object begins; -1 for a list
        self.whole: list[tuple[int, int]] = []  # the objects inside that are complete, the outermost ones
        self.next = _VALUE
        self.in_string = self.in_scalar = False
        self.string = -1  # where the string begins that was read last

    def move(self, by: int) -> None:
        """Follow a buffer of which the first bytes were dropped."""
        self.start -= by
        self.at -= by
        self.string = max(-1, self.string - by)
        self.open = [at - by if at >= 0 else at for at in self.open]
        self.whole = [(start - by, end - by) for start, end in self.whole]

    def go_on(self, buffer: bytearray, limit: int) -> str:
        """Return ``_DONE`` with ``at`` behind the object, ``_BAD`` with ``at`` where it is broken, or ``_MORE``."""
        end = min(len(buffer), limit)
        while True:
            if self.in_string:
                self.at = _end(_IN_STRING.match(buffer, self.at, end))
                if self.at >= end or (buffer[self.at] == _BACKSLASH and self.at + 1 >= end):
                    break
                if buffer[self.at] != _QUOTE:
                    return _BAD
                self.at += 1
                self.in_string = False
                self._value_is_over()
            elif self.in_scalar:
                self.at = _end(_SCALAR.match(buffer, self.at, end))
                if self.at >= end:
                    break
                self.in_scalar = False
                self._value_is_over()
            self.at = _end(_SPACE.match(buffer, self.at, end))
            if self.at >= end:
                break
            if not self._take(buffer[self.at]):
                return _BAD
            if not self.open:
                return _DONE
        if end == limit:
            self.at = end
            return _BAD
        return _MORE

    def _take(self, byte: int) -> bool:
        """Take the first byte of what comes next; False if that must not come here."""
        expected = self.next
        if byte == _QUOTE:
            if expected in (_AFTER_KEY, _AFTER_VALUE):
                return False
            self.string = self.at
            self.in_string = True
            self.at += 1
            return True
        at = self.at
        self.at += 1
        if byte == _COLON and expected == _AFTER_KEY:
            self.next = _VALUE
        elif byte == _COMMA and expected == _AFTER_VALUE:
            self.next = _KEY if self.open[-1] >= 0 else _VALUE
        elif byte == _OPEN and expected in (_VALUE, _VALUE_OR_END):
            self.open.append(at)
            self.next = _KEY_OR_END
        elif byte == _LIST_OPEN and expected in (_VALUE, _VALUE_OR_END):
            self.open.append(-1)
            self.next = _VALUE_OR_END
        elif byte == _CLOSE and self.open[-1] >= 0 and expected in (_KEY_OR_END, _AFTER_VALUE):
            self._close_object()
        elif byte == _LIST_CLOSE and self.open[-1] < 0 and expected in (_VALUE_OR_END, _AFTER_VALUE):
            self.open.pop()
            self.next = _AFTER_VALUE
        elif expected in (_VALUE, _VALUE_OR_END) and _SCALAR.match(bytes([byte])).end():  # type: ignore[union-attr]
            self.in_scalar = True
        else:
            self.at = at
            return False
        self.string = -1
        return True

    def _value_is_over(self) -> None:
        self.next = _AFTER_KEY if self.next in (_KEY, _KEY_OR_END) else _AFTER_VALUE

    def _close_object(self) -> None:
        start = self.open.pop()
        self.next = _AFTER_VALUE
        if not self.open:
            return
        while self.whole and self.whole[-1][0] > start:
            self.whole.pop()
        self.whole.append((start, self.at))


def _end(match: re.Match[bytes] | None) -> int:
    if match is None:  # these patterns match the empty text as well
        raise RuntimeError("a pattern that always matches did not")
    return match.end()
