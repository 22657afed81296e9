"""Fuzzes one target with atheris until time or runs are over; ``scripts/fuzz`` starts this, once for each target.

The code under test is instrumented while it is imported, so nothing of it may be imported before.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
from nacl import bindings

with atheris.instrument_imports(include=["sneaker"], enable_loader_override=False):
    from tests.fuzz.rules import little_stack
    from tests.fuzz.targets import TARGETS


# Public-key cryptography takes longer than all the rest of most targets, and is asked the same again and again.
SLOW = (
    "crypto_scalarmult",
    "crypto_scalarmult_base",
    "crypto_sign",
    "crypto_sign_ed25519_pk_to_curve25519",
    "crypto_sign_ed25519_sk_to_curve25519",
    "crypto_sign_open",
    "crypto_sign_seed_keypair",
)


def remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` with a memory of its answers, errors among them."""
    answers: dict[tuple[bytes, ...], Any] = {}

    def ask(*args: bytes) -> Any:
        answer = answers.get(args)
        if answer is None:
            if len(answers) >= 10_000:
                answers.clear()
            try:
                answer = function(*args)
            except Exception as error:
                answer = error
            answers[args] = answer
        if isinstance(answer, Exception):
            raise answer.with_traceback(None)
        return answer

    return ask


def main() -> None:
    """``run.py TARGET FOLDER [libFuzzer options]``: FOLDER is the corpus that grows."""
    name, folder, *options = sys.argv[1:]
    target = TARGETS[name]
    corpus = Path(folder)
    for data in target.seeds():
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    for function in SLOW:
        setattr(bindings, function, remembering(getattr(bindings, function)))
    atheris.Setup([sys.argv[0], folder, f"-max_len={target.max_bytes}", *options], target.check)
    with little_stack():
        atheris.Fuzz()


main()
