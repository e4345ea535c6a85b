"""Prefetch and background threads with guaranteed shutdown."""

import atexit
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, ParamSpec, TypeVar

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


class Newest(Generic[T]):
    """The newest item of an iterator that a thread of its own reads; items that nobody took in time are dropped.

    Iterating yields items, and None each time that nothing came for a while. Exceptions of the iterator are raised
    after its last item. At the end of a `with` block the iterator is closed, unless it is stuck in reading.

    Args:
        items: read by that thread alone.
        wait: seconds after which None is yielded.

    Attributes:
        dropped: number of items that nobody took.
    """

    def __init__(self, items: Iterator[T], wait: float = 0.05) -> None:
        self.items, self.wait, self.dropped = items, wait, 0
        self._ready: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
        self._running, self._thread = True, Thread(target=self._work, name="depthaware", daemon=True)

    def _work(self) -> None:
        end: BaseException | None = None
        try:
            for item in self.items:
                with suppress(Empty):
                    self._ready.get_nowait()
                    self.dropped += 1
                self._ready.put((item,))
                if not self._running:
                    break
            getattr(self.items, "close", lambda: None)()
        except BaseException as error:
            end = error
        self._ready.put(end)

    def __enter__(self) -> "Newest[T]":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._thread.join(1)

    def __iter__(self) -> Iterator[T | None]:
        while True:
            try:
                found = self._ready.get(timeout=self.wait)
            except Empty:
                yield None
                continue
            if isinstance(found, BaseException):
                raise found
            if found is None:
                return
            yield found[0]


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
