"""Prefetch and background threads with guaranteed shutdown."""

import atexit
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

AHEAD = 2
"""Depth of the queues between reading, the network and writing: frames, or batches of them."""


@contextmanager
def prefetch(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Read an iterable ahead, in a thread of its own.

    ```python
    with prefetch(video, 4) as frames:
        for frame in frames:
            ...
    ```

    Exceptions of the iterable are raised after the items before them. At the end of the block the thread has ended: it
    finishes the current item and closes a generator.

    Args:
        items: read by that thread alone.
        depth: largest number of items that are read but not yet consumed, at least 1.
    """
    room: SimpleQueue[bool | None] = SimpleQueue()  # implemented in C: Ctrl-C cannot leave one of its locks held
    ready: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    for _ in range(depth):
        room.put(True)

    def work() -> None:
        try:
            iterator = iter(items)
            try:
                for _, item in zip(iter(room.get, None), iterator, strict=False):  # waits for room, then reads
                    ready.put((item,))
            finally:
                getattr(iterator, "close", lambda: None)()
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    def read() -> Iterator[T]:
        while (found := _take(ready)) is not None:
            if isinstance(found, BaseException):
                raise found
            room.put(True)
            yield found[0]

    with _running(work, room, patient=False):
        try:
            yield read()
        finally:
            _clear(room)


@contextmanager
def background(function: Callable[P, object], depth: int) -> Iterator[Callable[P, None]]:
    """Call a function in a thread of its own, in order, without blocking the caller.

    The end of the block waits for all calls, after an exception in the block only for the one that has begun. An
    exception of the function is raised by the next call or by the end of the block; no call is made after it.

    Args:
        function: called by that thread alone.
        depth: largest number of calls that have not returned yet, at least 1.
    """
    room: SimpleQueue[None] = SimpleQueue()
    calls: SimpleQueue[tuple[Any, Any] | None] = SimpleQueue()
    failure: BaseException | None = None
    for _ in range(depth):
        room.put(None)

    def work() -> None:
        nonlocal failure
        try:
            for args, kwargs in iter(calls.get, None):
                function(*args, **kwargs)
                room.put(None)
        except BaseException as error:
            failure = error
            room.put(None)

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        if failure is None:
            _take(room)
        if failure is not None:
            raise failure
        calls.put((args, kwargs))

    with _running(work, calls, patient=True):  # the block closes the thread's output next
        try:
            yield call
        except BaseException as error:
            _clear(calls)
            if failure is not None and isinstance(error, Exception):
                raise failure from None  # it came first
            raise
    if failure is not None:
        raise failure


@contextmanager
def _running(work: Callable[[], None], inbox: SimpleQueue[Any], *, patient: bool) -> Iterator[None]:
    """Run `work` in a thread until it takes None from its inbox, put there by the end of the block, and join it.

    Ctrl-C while waiting stops the wait, or if `patient` is raised after it.
    """
    running = True
    over = SimpleQueue[None]()  # up to Python 3.12 a `join` interrupted by Ctrl-C marks the thread as ended

    def run() -> None:
        nonlocal running
        work()
        running = False
        over.put(None)

    def end() -> None:
        interrupt: BaseException | None = None
        inbox.put(None)
        while running:
            try:
                _take(over)
            except BaseException as error:
                interrupt = error
                if not patient:
                    break
        if interrupt is not None:
            raise interrupt
        thread.join()

    thread = Thread(target=run, name="depthaware", daemon=True)
    thread.start()
    atexit.register(end)  # abandoned generators end their blocks after all threads were stopped, and would wait forever
    try:
        yield
    finally:
        atexit.unregister(end)
        end()


def _take(queue: SimpleQueue[T]) -> T:
    while True:
        with suppress(Empty):
            return queue.get(timeout=0.1)  # Windows handles Ctrl-C only between waits


def _clear(queue: SimpleQueue[Any]) -> None:
    with suppress(Empty):
        while True:
            queue.get_nowait()
