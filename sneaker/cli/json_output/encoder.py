"""The one place where a result becomes JSON text, and the words that describe fields in the contract."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, NamedTuple, TypedDict

__all__ = [
    "Base32",
    "Base64",
    "BlobId",
    "ErrorFields",
    "ErrorJson",
    "FeedId",
    "Form",
    "MessageId",
    "MessageJson",
    "Milliseconds",
    "NativeMessageJson",
    "OneOf",
    "encode",
    "error_json",
]


class Form(NamedTuple):
    """How the contract calls the values of a field, beyond their JSON type."""

    words: str


class OneOf(NamedTuple):
    """All values that a field can have."""

    values: tuple[str, ...]


FeedId = Annotated[str, Form("feed id")]
MessageId = Annotated[str, Form("message id")]
BlobId = Annotated[str, Form("blob id")]
Base32 = Annotated[str, Form("base32")]
Base64 = Annotated[str, Form("base64")]
Milliseconds = Annotated[int, Form("ms since 1970")]


class ErrorFields(TypedDict):
    """Why a command did not do what it was asked for."""

    code: Annotated[str, "stable: one of those in [exit codes](exit-codes.md), or `bug`"]
    message: Annotated[str, "one line for people"]
    hint: Annotated[str | None, "what a person can do about it"]


class ErrorJson(TypedDict):
    """What a command prints in place of its result if it fails. Words for people go to stderr as well."""

    error: Annotated[ErrorFields, "the error"]


class MessageJson(TypedDict):
    """One message, as `createLogStream` gives it; `sneaker import` takes lines of them."""

    key: Annotated[MessageId, "the id of the message"]
    value: Annotated[dict[str, object], "the signed message, as its author wrote it"]
    timestamp: Annotated[float | None, "when its author says it was written, in ms since 1970"]


class NativeMessageJson(MessageJson):
    """A message of another format than classic. What `value` says of it is what ssb-db2 says."""

    native: Annotated[Base64, "the bytes of the message; these are what `sneaker import` takes"]


def encode(value: Mapping[str, object]) -> str:
    """Return a result as one line of JSON, without the line end."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def error_json(code: str, message: str, hint: str | None) -> ErrorJson:
    """Return the JSON form of an error."""
    return {"error": {"code": code, "message": message, "hint": hint}}
