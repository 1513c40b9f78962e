from __future__ import annotations

import random

from pannier.runtime.embeddingqueue import AGEING_BATCHES, EmbeddingJob, EmbeddingQueue

MOST_TEXTS, MOST_TOKENS = 4, 100


def job(
    key: int, count: int, *, size: int = 10, client: str = "", priority: int = 0
) -> EmbeddingJob:
    return EmbeddingJob(key, [[1] * size] * count, client=client, priority=priority)


def batch(queue: EmbeddingQueue) -> list[int]:
    """The keys of the next batch's texts."""
    return [job.key for job, _ in queue.take(MOST_TEXTS, MOST_TOKENS)]


def test_texts_of_one_client_go_in_the_order_in_which_they_came() -> None:
    queue = EmbeddingQueue()
    for key in (1, 2):
        queue.add(job(key, 3))
    assert [batch(queue), batch(queue)] == [[1, 1, 1, 2], [2, 2]]
    assert not queue


def test_one_text_does_not_stand_behind_thousands_of_somebody_else() -> None:
    queue = EmbeddingQueue()
    queue.add(job(1, 10_000, client="a"))
    batch(queue)
    queue.add(job(2, 1, client="b"))
    assert 2 in batch(queue)


def test_two_clients_get_equal_shares_however_many_requests_each_has() -> None:
    queue = EmbeddingQueue()
    for key in range(10):
        queue.add(job(key, 4, client="a"))
    queue.add(job(99, 40, client="b"))
    keys = [key for _ in range(10) for key in batch(queue)]
    assert keys.count(99) == 20


def test_what_is_urgent_goes_first_and_what_waited_long_goes_too() -> None:
    queue = EmbeddingQueue()
    queue.add(job(1, 1, priority=1))
    for batches in range(2, 2 * AGEING_BATCHES):
        queue.add(job(batches, MOST_TEXTS))
        if 1 in batch(queue):
            break
    assert batches in (AGEING_BATCHES, AGEING_BATCHES + 1)
    queue.add(job(0, 1, priority=-1))
    assert batch(queue)[0] == 0


def test_a_cancelled_request_is_in_no_later_batch() -> None:
    queue = EmbeddingQueue()
    queue.add(job(1, 8))
    queue.add(job(2, 1))
    batch(queue)
    assert queue.cancel(1)
    assert batch(queue) == [2]
    assert not queue.cancel(1)


def test_no_text_is_lost_or_doubled_and_every_batch_fits() -> None:
    dice = random.Random(1)
    queue, wanted, got = EmbeddingQueue(), set[tuple[int, int]](), list[tuple[int, int]]()
    for key in range(200):
        sizes = [dice.choice([1, 30, 100]) for _ in range(dice.randint(1, 9))]
        texts = [[1] * size for size in sizes]
        queue.add(EmbeddingJob(key, texts, client=dice.choice("abc"), priority=dice.randint(-1, 1)))
        wanted |= {(key, number) for number in range(len(texts))}
        for _ in range(dice.randint(0, 3)):
            taken = queue.take(MOST_TEXTS, MOST_TOKENS)
            assert sum(len(job.texts[number]) for job, number in taken) <= MOST_TOKENS
            got += [(job.key, number) for job, number in taken]
    while queue:
        got += [(job.key, number) for job, number in queue.take(MOST_TEXTS, MOST_TOKENS)]
    assert len(got) == len(set(got))
    assert set(got) == wanted
