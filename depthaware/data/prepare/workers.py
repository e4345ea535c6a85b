"""Work on many items in several processes that end with the main process, however it ends."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from threading import Thread
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[..., Result], items: Sequence[Item], *arguments: Any, workers: int
) -> Iterator[Result]:
    """Call ``function(item, *arguments)`` for all items, and yield the results as they become available.

    Args:
        function: at the top of a module, as it is sent to other processes.
        items: picklable.
        *arguments: picklable, the same for all items.
        workers: number of processes; with 1, or a single item, the work is done in this process.

    Raises:
        ValueError: if a worker was killed.
    """
    if workers == 1 or len(items) < 2:
        yield from (function(item, *arguments) for item in items)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=context, initializer=_end_with_parent) as pool:
        futures = [pool.submit(function, item, *arguments) for item in items]
        try:
            yield from (future.result() for future in as_completed(futures))
        except BrokenExecutor as error:
            raise ValueError("a worker died, perhaps out of memory; finished work is kept, so try again") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let a worker end at once and silently on Ctrl-C, and when its parent was killed."""

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    Thread(target=wait, daemon=True).start()
