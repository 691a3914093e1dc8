"""I/O priorities of real threads, as the kernel tells them."""

from __future__ import annotations

import os
import threading

import pytest

from launcher.io.ioprio import get_priority, priority_number, set_priority, threads_by_inner_number


@pytest.mark.parametrize(
    ("text", "number"), [("idle", 3 << 13), ("best-effort:6", 2 << 13 | 6), ("realtime:0", 1 << 13)]
)
def test_the_number_has_class_and_level(text: str, number: int) -> None:
    assert priority_number(text) == number


def test_a_thread_gets_what_is_set_and_its_own_threads_inherit_it() -> None:
    seen: list[int] = []

    def outer() -> None:
        assert set_priority(threading.get_native_id(), "best-effort:6") == ""
        inner = threading.Thread(target=lambda: seen.append(get_priority(threading.get_native_id())))
        inner.start()
        inner.join()

    thread = threading.Thread(target=outer)
    thread.start()
    thread.join()
    assert seen == [2 << 13 | 6]


def test_a_thread_that_is_not_there_is_refused_in_the_kernels_words() -> None:
    assert "No such process" in set_priority(2**22 + 1, "idle")
    assert threads_by_inner_number(2**22 + 1) == {}


def test_threads_are_known_by_their_inner_number() -> None:
    assert threads_by_inner_number(os.getpid())[os.getpid()] == os.getpid()
