"""Texts that wait to be embedded: by priority, fair between clients, text by text. Pure.

Start-time fair queueing as in `waiting`, but since texts are independent of each other a request is
not served as a whole: each text starts, in virtual time, where the one before it ends. So one text
of a client stands behind a batch's worth of somebody else's ten thousand, not behind all of them.
Waiting makes up for priority, so that nobody waits for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Batches of waiting that count as one level of priority; one takes as long as ten steps or more.
AGEING_BATCHES = 200


@dataclass(slots=True, eq=False)
class EmbeddingJob:
    """Texts of one request, as tokens; `vectors` fill up, `missing` counts down.

    Attributes:
        key: the number by which the request is known.
        texts: none of them empty.
        client: whose it is.
        priority: lower goes first.
        taken: how many texts are in a batch, or were.
        start: in virtual time, where the next text begins.
        order: which of those that begin at the same time came first.
        arrived: how many batches there were before it.
    """

    key: int
    texts: list[list[int]]
    client: str = ""
    priority: int = 0
    vectors: list[bytes] = field(default_factory=list)
    missing: int = 0
    taken: int = 0
    start: float = 0.0
    order: int = 0
    arrived: int = 0

    def __post_init__(self) -> None:
        self.vectors = [b""] * len(self.texts)
        self.missing = len(self.texts)


Text = tuple[EmbeddingJob, int]


class EmbeddingQueue:
    """Requests with texts that are in no batch yet."""

    def __init__(self) -> None:
        self._jobs: list[EmbeddingJob] = []
        self._ends: dict[str, float] = {}
        self._now = 0.0
        self._count = 0
        self._batches = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: EmbeddingJob) -> None:
        """Queue a request's texts, at least one."""
        self._count += 1
        job.order, job.arrived = self._count, self._batches
        job.start = max(self._now, self._ends.get(job.client, 0.0))
        self._ends[job.client] = job.start + sum(map(len, job.texts))
        self._jobs.append(job)

    def cancel(self, key: int) -> bool:
        """Forget a request's texts; False where there are none."""
        found = [job for job in self._jobs if job.key == key]
        for job in found:
            self._remove(job)
        return bool(found)

    def take(self, most_texts: int, most_tokens: int) -> list[Text]:
        """The texts of the next batch: those whose turn it is, as many as fit, at least one."""
        self._batches += 1
        taken: list[Text] = []
        room = most_tokens
        while self._jobs and len(taken) < most_texts:
            job = min(self._jobs, key=self._rank)
            size = len(job.texts[job.taken])
            if taken and size > room:
                break
            taken.append((job, job.taken))
            room -= size
            self._now = max(self._now, job.start)
            job.start += size
            job.taken += 1
            if job.taken == len(job.texts):
                self._remove(job)
        return taken

    def _rank(self, job: EmbeddingJob) -> tuple[int, float, int]:
        age = (self._batches - job.arrived) // AGEING_BATCHES
        return job.priority - age, job.start, job.order

    def _remove(self, job: EmbeddingJob) -> None:
        self._jobs.remove(job)
        if not self._jobs:
            self._ends.clear()
