"""Work beside the connections: tasks of the event loop that somebody has to hold, and a thread that reads the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sneaker.bugs import Reporter
from sneaker.store.store import Store

__all__ = ["BackgroundWork"]

# Work that goes on for ever begins again so long after something went wrong in it.
_AGAIN_S = 1.0

Result = TypeVar("Result")


class BackgroundWork:
    """The tasks of one node, and its thread with a store of its own."""

    def __init__(self, store: Store, remark: Callable[[str], None]) -> None:
        """``store`` is used in the thread only, and closed with it; ``remark`` is told what went wrong."""
        self._store = store
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Says what went wrong in a piece of work that has ended with it.
        self.report_error = Reporter(remark, time.monotonic)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine and hold on to it until it is done (the loop alone would not); a failure is reported."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report_error(error)

    async def repeat_for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do work that never ends, from the start again if something goes wrong in it."""
        while True:
            try:
                await work()
            except Exception as error:
                self.report_error(error)
            await asyncio.sleep(_AGAIN_S)

    async def with_store(self, work: Callable[[Store], Result]) -> Result:
        """Do something with the store that takes a while, in the thread, so that nobody has to wait."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, self._store)

    async def wait_for_tasks(self, timeout_s: float) -> None:
        """Wait until nothing that was spawned goes on, but no longer than ``timeout_s``."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    def stop_thread(self) -> None:
        """End the thread and close its store."""
        self._executor.shutdown()
        self._store.close()
