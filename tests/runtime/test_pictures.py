"""Images among tokens, and the cache of those that are encoded."""

from __future__ import annotations

import ctypes
import threading

import pytest

from pannier.runtime.pictures import (
    Picture,
    PictureCache,
    Slice,
    lay_out,
    position_of,
    row_tokens,
)


def picture(name: str, cells: int = 4, *, positions: int | None = None) -> Picture:
    rows = (ctypes.c_float * cells)()
    tokens = row_tokens(name, 0, cells)
    return Picture(name, ((7,), Slice(tokens, positions or cells, 1, rows), (8,)))


def test_rows_of_one_image_are_the_same_numbers_and_of_others_are_not() -> None:
    assert row_tokens("a", 0, 64) == row_tokens("a", 0, 64)
    assert max(row_tokens("a", 0, 64)) < 0
    other = set(row_tokens("b", 0, 64)) | set(row_tokens("a", 1, 64))
    assert not other & set(row_tokens("a", 0, 64))


def test_positions_go_on_after_a_grid_and_not_after_its_rows() -> None:
    tokens, spans = lay_out([[1, 2], picture("a", 12, positions=4), [3], picture("b", 2), [4, 5]])
    assert len(tokens) == 23
    assert [span.start for span in spans] == [3, 18]
    assert [position_of(at, spans) for at in (0, 3, 15, 16, 18, 20, 22)] == [0, 3, 7, 8, 10, 12, 14]


def test_the_least_recently_used_picture_goes_first() -> None:
    cache = PictureCache(3 * 16)
    for name in ("a", "b", "c"):
        cache.add(picture(name))
    assert cache.get("a") is not None
    cache.add(picture("d"))
    assert cache.get("b") is None
    assert cache.get("a") is not None


def test_a_picture_larger_than_the_budget_is_not_kept() -> None:
    cache = PictureCache(10)
    cache.add(picture("a"))
    assert cache.get("a") is None


def test_room_is_made_by_forgetting_what_nobody_holds() -> None:
    cache = PictureCache(2 * 16)
    for name in ("a", "b"):
        cache.add(picture(name))
    cache.wait_for_room(16, own=0, is_over=lambda: pytest.fail("it waited"))
    assert cache.get("a") is None
    assert cache.get("b") is not None


def test_who_needs_more_than_there_is_gets_it_alone() -> None:
    cache = PictureCache(2 * 16)
    mine = picture("a")
    cache.add(mine)
    cache.wait_for_room(100, own=mine.size, is_over=lambda: pytest.fail("it waited"))


def test_room_is_waited_for_while_a_request_holds_it() -> None:
    cache = PictureCache(16)
    held = [picture("a")]
    cache.add(held[0])
    done = threading.Event()

    def wait() -> None:
        cache.wait_for_room(16, own=0, is_over=lambda: False)
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not done.is_set()
    held.clear()
    thread.join(timeout=20)
    assert done.is_set()


def test_who_is_over_waits_no_more() -> None:
    cache = PictureCache(16)
    held = picture("a")
    cache.add(held)
    cache.wait_for_room(16, own=0, is_over=lambda: True)
    assert held.size == 16
