"""What runs in an event loop until it is told to stop; imported when it is needed, for asyncio takes a while to load."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sneaker.bugs import Reporter
from sneaker.cli.app import settings
from sneaker.cli.printing import clean

if TYPE_CHECKING:
    from sneaker.desktop.sdnotify import ServiceManager

__all__ = ["AGAIN_S", "Service", "run_services", "run_until_stopped"]

# How long a service that failed waits before it is started again.
AGAIN_S = 60

#: Something that runs until it is cancelled.
Service = Callable[[], Awaitable[None]]

Result = TypeVar("Result")


def run_until_stopped(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Run a coroutine until it ends or the program is told to stop (SIGINT, SIGTERM): then it is cancelled."""

    async def guarded() -> Result | None:
        loop = asyncio.get_running_loop()
        _contain(loop, settings.output().print_remark)
        task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(guarded())


def run_services(
    services: Sequence[Service],
    manager: ServiceManager,
    on_hangup: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Run services until the process is told to stop (SIGTERM, SIGINT); then let them finish.

    A service that fails, even by a bug, is started again after a while, and the others go on; ``say`` is told why.
    ``on_hangup`` is called for every SIGHUP: 'systemctl --user reload', or a person who has just trusted the stick that
    is plugged in.
    """
    asyncio.run(_serve(services, manager, on_hangup, say))


async def _serve(
    services: Sequence[Service],
    manager: ServiceManager,
    on_hangup: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    report = _contain(loop, say)
    tasks = [asyncio.create_task(_go_on(service, report)) for service in services]
    tasks.append(asyncio.create_task(_keep_alive(manager)))

    def stop() -> None:
        manager.stopping()
        for task in tasks:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await asyncio.wait(tasks)
    finally:
        stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _go_on(service: Service, report: Reporter) -> None:
    while True:
        try:
            await service()
        except Exception as error:
            report(error)
        await asyncio.sleep(AGAIN_S)


def _contain(loop: asyncio.AbstractEventLoop, say: Callable[[str], None]) -> Reporter:
    """Report in one line what goes wrong in callbacks and in tasks that nobody waits for; everything goes on."""
    report = Reporter(lambda text: say(clean(text, 300)), loop.time)

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or os.environ.get("SNEAKER_DEBUG"):
            loop.default_exception_handler(context)
        else:
            report(error)

    loop.set_exception_handler(handle)
    return report


async def _keep_alive(manager: ServiceManager) -> None:
    """Tell the service manager now and then that the event loop is alive."""
    while True:
        manager.alive()
        await asyncio.sleep(manager.alive_interval_s or 3600)
