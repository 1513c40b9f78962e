"""What a real server says of its engine: prompts shared, text left out, embeddings beside chat."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.live import live_server

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def post(url: str, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The answer and its headers."""
    request = urllib.request.Request(
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response), dict(response.headers)


def stats(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url + "/api/ps", timeout=60) as response:
        counts: dict[str, int] = json.load(response)["models"][0]["stats"]
        return counts


def test_several_answers_compute_their_prompt_once(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Tell me of " + "rivers and stones and " * 40}]
    body = {"model": "smollm2", "messages": messages, "max_tokens": 4, "n": 4, "seed": 1}
    with live_server(tmp_path) as live:
        answer, _ = post(live.url, "/v1/chat/completions", body)
        counts = stats(live.url)
    assert len(answer["choices"]) == 4
    prompt = answer["usage"]["prompt_tokens"]
    assert prompt <= counts["prompt_tokens_computed"] <= prompt + 3
    assert counts["prompt_tokens_shared"] >= 3 * (prompt - 1)


def test_text_that_was_left_out_is_told_in_a_field_and_a_header(tmp_path: Path) -> None:
    options = {"num_ctx": 256, "num_predict": 2}
    body = {"model": "smollm2", "prompt": "word " * 1000, "stream": False, "options": options}
    with live_server(tmp_path) as live:
        answer, headers = post(live.url, "/api/generate", body)
    assert answer["truncated"]["tokens"] > 700
    assert headers["X-Pannier-Truncated"] == str(answer["truncated"]["tokens"])


def test_cells_of_every_type_answer(tmp_path: Path) -> None:
    sizes = []
    with live_server(tmp_path) as live:
        for kind in ("f16", "q8_0", "q4_0"):
            body = {
                "model": "smollm2",
                "prompt": "The capital of France is",
                "stream": False,
                "raw": True,
                "options": {"kv_cache_type": kind, "num_predict": 8, "temperature": 0},
            }
            assert "Paris" in post(live.url, "/api/generate", body)[0]["response"]
            sizes.append(live.runtime.loaded()[0].info.size)
    assert sizes[0] > sizes[1] > sizes[2]
