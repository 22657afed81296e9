"""Holds JSON against the types in ``sneaker.cli.json_output``."""

from __future__ import annotations

import base64
import re
import typing
from collections.abc import Iterator
from typing import Any

from scripts.json_contract import fields, is_shape, members, plain, words_of
from sneaker.cli.json_output.encoder import Form, OneOf

FORMS = {
    "feed id": re.compile(r"@[A-Za-z0-9+/]{43}=\.ed25519|ssb:feed/[a-z0-9-]+/[A-Za-z0-9_-]{43}="),
    "message id": re.compile(r"%[A-Za-z0-9+/]{43}=\.sha256|ssb:message/[a-z0-9-]+/[A-Za-z0-9_-]{43}="),
    "blob id": re.compile(r"&[A-Za-z0-9+/]{43}=\.sha256"),
    "base32": re.compile(r"[a-z2-7]+"),
}


def problems(value: Any, kind: Any, where: str = "") -> Iterator[str]:
    """Yield what is not as the contract says: a type, a missing field, one that nobody has described."""
    options = members(kind)
    if len(options) > 1:
        found = [list(problems(value, option, where)) for option in options]
        if all(found):
            yield from min(found, key=len)
        return
    bare, said = plain(kind)
    if is_shape(bare):
        if not isinstance(value, dict):
            yield f"{where}: not an object: {value!r}"
            return
        shape = fields(bare)
        yield from (f"{where}.{name}: is missing" for name in shape.keys() - value.keys())
        yield from (f"{where}.{name}: is not in the contract" for name in value.keys() - shape.keys())
        for name in shape.keys() & value.keys():
            yield from problems(value[name], shape[name][0], f"{where}.{name}")
    elif typing.get_origin(bare) is list:
        if not isinstance(value, list):
            yield f"{where}: not a list: {value!r}"
            return
        for number, item in enumerate(value):
            yield from problems(item, typing.get_args(bare)[0], f"{where}[{number}]")
    elif typing.get_origin(bare) is dict:
        if not isinstance(value, dict):
            yield f"{where}: not an object: {value!r}"
            return
        key, inner = typing.get_args(bare)
        if inner is object:
            return
        for name, item in value.items():
            yield from problems(name, key, f"{where} key")
            yield from problems(item, inner, f"{where}[{name}]")
    elif not _fits(value, bare, said):
        yield f"{where}: {value!r} is not {words_of(kind)}"


def _fits(value: Any, kind: Any, said: Form | OneOf | None) -> bool:
    if kind is type(None):
        return value is None
    if isinstance(said, OneOf):
        return value in said.values
    if said is not None and said.words == "base64":
        return isinstance(value, str) and bool(base64.b64decode(value, validate=True))
    if said is not None and said.words in FORMS:
        return isinstance(value, str) and FORMS[said.words].fullmatch(value) is not None
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
