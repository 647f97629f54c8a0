"""Threads that do tasks, also where the system gives few of them."""

import threading
from collections.abc import Iterator

import pytest

from clipshards.packer.format.errors import StorageError
from clipshards.packer.storage.threads import Threads


@pytest.fixture
def no_more_threads() -> Iterator[None]:
    """Let no more threads start: no machine has the memory for the stack of one."""
    before = threading.stack_size(1 << 50)
    try:
        yield
    finally:
        threading.stack_size(before)


def test_tasks_give_what_they_return_and_raise() -> None:
    threads = Threads()
    assert threads.submit(lambda: b"1").result(10) == b"1"
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: bytes(1 // 0)).result(10)


@pytest.mark.usefixtures("no_more_threads")
def test_error_says_that_no_thread_starts() -> None:
    with pytest.raises(StorageError, match="no thread can be started"):
        Threads().submit(lambda: b"1").result(10)


def test_one_thread_does_what_no_other_can_be_started_for(
    request: pytest.FixtureRequest,
) -> None:
    threads, go = Threads(), threading.Event()
    first = threads.submit(lambda: b"%d" % go.wait(10))
    request.getfixturevalue("no_more_threads")
    more = [threads.submit(lambda n=n: b"%d" % n) for n in range(50)]  # type: ignore[misc]
    go.set()
    assert first.result(10) == b"1"
    assert [one.result(10) for one in more] == [b"%d" % n for n in range(50)]


def test_threads_start_again_once_they_can(request: pytest.FixtureRequest) -> None:
    threads = Threads()
    before = threading.stack_size(1 << 50)
    try:
        assert isinstance(threads.submit(lambda: b"1").exception(10), StorageError)
    finally:
        threading.stack_size(before)
    assert threads.submit(lambda: b"2").result(10) == b"2"
