"""What runs in an event loop until it is told to stop; imported when it is needed, for asyncio takes a while to load."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sneaker.cli.network import peer_service
from sneaker.cli.show import clean
from sneaker.errors import NetworkError

if TYPE_CHECKING:
    from sneaker.desktop.sdnotify import ServiceManager

__all__ = ["Service", "run_peer", "run_services", "run_until_stopped"]

_PEER_RETRY_S = 60

#: Something that runs until it is cancelled.
Service = Callable[[], Awaitable[None]]

Result = TypeVar("Result")


def run_until_stopped(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Run a coroutine until it ends or the program is told to stop (SIGINT, SIGTERM): then it is cancelled."""

    async def guarded() -> Result | None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(guarded())


def run_services(services: Sequence[Service], manager: ServiceManager, on_hangup: Callable[[], None]) -> None:
    """Run services until one fails or the process is told to stop (SIGTERM, SIGINT); then let them finish.

    ``on_hangup`` is called for every SIGHUP: 'systemctl --user reload', or a person who has just trusted the stick that
    is plugged in.
    """
    asyncio.run(_serve(services, manager, on_hangup))


async def _serve(services: Sequence[Service], manager: ServiceManager, on_hangup: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    tasks = [asyncio.ensure_future(service()) for service in services]
    tasks.append(asyncio.ensure_future(_keep_alive(manager)))

    def stop() -> None:
        manager.stopping()
        for task in tasks:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        stop()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _keep_alive(manager: ServiceManager) -> None:
    """Tell the service manager now and then that the event loop turns."""
    while True:
        manager.alive()
        await asyncio.sleep(manager.alive_interval_s or 3600)


async def run_peer(say: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Run the LAN peer; a network that is not there, or a port, must not keep sticks from being synced."""
    while True:
        try:
            await peer_service(say, warn)
        except NetworkError as error:
            say(f"the peer does not run: {clean(error.message, 300)}; trying again in {_PEER_RETRY_S} s")
        await asyncio.sleep(_PEER_RETRY_S)
