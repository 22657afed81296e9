"""Services side by side: one that fails begins again, and the others notice nothing."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from sneaker.cli import event_loop
from sneaker.cli.event_loop import run_services
from sneaker.desktop.sdnotify import ServiceManager
from sneaker.errors import StoreFull

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("error", [StoreFull("the disk is full"), OSError(28, "No space left"), RecursionError("deep")])
def test_a_service_that_fails_begins_again_and_the_others_go_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_loop, "AGAIN_S", 0.02)
    monkeypatch.delenv("SNEAKER_DEBUG", raising=False)
    begun: list[str] = []
    said: list[str] = []

    async def failing() -> None:
        begun.append("failing")
        if begun.count("failing") < 4:
            raise error
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    async def steady() -> None:
        begun.append("steady")
        asyncio.get_running_loop().call_soon(lambda: [][0])  # nobody waits for a callback
        try:
            await asyncio.sleep(60)
        finally:
            begun.append("steady is stopped")

    run_services([failing, steady], ServiceManager(None), lambda: None, said.append)
    assert begun.count("failing") == 4
    assert begun.count("steady") == begun.count("steady is stopped") == 1
    assert len(said) == 2, said
    assert any(line.startswith("this is a bug in sneaker, please report it: IndexError") for line in said), said
    words = {
        StoreFull: "the disk is full",
        OSError: "no space left",
        RecursionError: "this is a bug in sneaker, please report it: RecursionError: deep",
    }
    assert any(line.startswith(words[type(error)]) for line in said), said
