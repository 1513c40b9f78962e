"""Images through every surface, to a real engine with a projector of random weights."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from support.cli import PROGRAM
from support.live import Live, live_server
from support.tinyvision import png

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MODEL = "smollm2-eyes"
IMAGE_TOKENS = 16
OPTIONS = {"num_predict": 8}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("live")) as live:
        yield live


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{b64(data)}"


def post(live: Live, path: str, **body: Any) -> requests.Response:
    return requests.post(live.url + path, json=body, timeout=60)


def generate(live: Live, prompt: str, *images: bytes, **more: Any) -> requests.Response:
    body = {"model": MODEL, "prompt": prompt, "stream": False, "options": OPTIONS}
    return post(live, "/api/generate", **{**body, "images": [b64(i) for i in images], **more})


def chat(
    live: Live, *images: bytes, content: str = "What is it?", **more: Any
) -> requests.Response:
    message = {"role": "user", "content": content, "images": [b64(image) for image in images]}
    body = {"model": MODEL, "messages": [message], "stream": False, "options": OPTIONS}
    return post(live, "/api/chat", **{**body, **more})


def test_a_model_with_a_projector_says_that_it_looks(live: Live) -> None:
    shown = post(live, "/api/show", model=MODEL).json()
    assert "vision" in shown["capabilities"]
    assert shown["projector_info"]["general.architecture"] == "clip"
    assert "vision" not in post(live, "/api/show", model="smollm2").json()["capabilities"]


def test_image_tokens_count_as_prompt(live: Live) -> None:
    bare = generate(live, "What is it?").json()
    seen = generate(live, "What is it?", png()).json()
    assert seen["prompt_eval_count"] == bare["prompt_eval_count"] + IMAGE_TOKENS
    assert seen["response"]


def test_chat_and_generate_agree(live: Live) -> None:
    answer = chat(live, png()).json()
    assert answer["message"]["content"] == generate(live, "What is it?", png()).json()["response"]


def test_two_images_are_two_answers(live: Live) -> None:
    logprobs = [
        chat(live, png(seed=seed), logprobs=True).json()["logprobs"][0]["logprob"]
        for seed in (1, 2, 1)
    ]
    assert logprobs[0] != logprobs[1]
    assert logprobs[0] == pytest.approx(logprobs[2], abs=0.05)


def test_openai_image_parts(live: Live) -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": data_url(png())}},
    ]
    body = {"model": MODEL, "messages": [{"role": "user", "content": parts}], "max_tokens": 8}
    answer = post(live, "/v1/chat/completions", **body).json()
    reference = chat(live, png()).json()
    assert answer["choices"][0]["message"]["content"] == reference["message"]["content"]
    assert answer["usage"]["prompt_tokens"] == reference["prompt_eval_count"]


def test_responses_input_images(live: Live) -> None:
    parts = [
        {"type": "input_text", "text": "What is it?"},
        {"type": "input_image", "image_url": data_url(png())},
    ]
    answer = post(
        live,
        "/v1/responses",
        model=MODEL,
        input=[{"role": "user", "content": parts}],
        max_output_tokens=8,
    ).json()
    reference = chat(live, png()).json()["message"]["content"]
    assert answer["output"][0]["content"][0]["text"] == reference


def anthropic_message(data: bytes) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": b64(data)}
    image = {"type": "image", "source": source}
    return {"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}


def test_anthropic_image_blocks_and_their_count(live: Live) -> None:
    body = {"model": MODEL, "messages": [anthropic_message(png())]}
    answer = post(live, "/v1/messages", **body, max_tokens=8).json()
    assert answer["content"][0]["text"] == chat(live, png()).json()["message"]["content"]
    counted = post(live, "/v1/messages/count_tokens", **body).json()["input_tokens"]
    usage = answer["usage"]
    assert counted == usage["input_tokens"] + usage["cache_read_input_tokens"]


def test_no_url_is_fetched(live: Live) -> None:
    part = {"type": "image_url", "image_url": {"url": f"{live.url}/api/version"}}
    body = {"model": MODEL, "messages": [{"role": "user", "content": [part]}]}
    assert post(live, "/v1/chat/completions", **body).status_code == 400
    source = {"type": "url", "url": f"{live.url}/api/version"}
    block = {"type": "image", "source": source}
    body = {"model": MODEL, "messages": [{"role": "user", "content": [block]}]}
    assert post(live, "/v1/messages", **body, max_tokens=8).status_code == 400


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no image at all", "an image is none"),
        (png()[:60], "broken"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "cut short"),
        (png()[:16] + b"\0\0\x80\0\0\0\x80\0" + png()[24:], "32768 x 32768 pixels"),
    ],
)
def test_what_is_no_image_is_refused(live: Live, data: bytes, words: str) -> None:
    refused = chat(live, data)
    assert refused.status_code == 400
    assert words in refused.json()["error"]


def test_a_model_without_a_projector_refuses_images(live: Live) -> None:
    refused = chat(live, png(), model="smollm2")
    assert refused.status_code == 400
    assert "does not support vision" in refused.json()["error"]


def test_images_that_do_not_fit_are_refused(live: Live) -> None:
    images = [png(seed=seed) for seed in range(90)]
    refused = generate(live, "What is it?", *images, options={**OPTIONS, "num_ctx": 512})
    assert refused.status_code == 400
    assert "context length" in refused.json()["error"]


def test_old_messages_go_before_images_that_do_not_fit(live: Live) -> None:
    old = {"role": "user", "content": "Look.", "images": [b64(png(seed=s)) for s in range(90)]}
    new = {"role": "user", "content": "What is it?", "images": [b64(png())]}
    answer = post(
        live,
        "/api/chat",
        model=MODEL,
        messages=[old, {"role": "assistant", "content": "Yes."}, new],
        stream=False,
        options={**OPTIONS, "num_ctx": 512},
    )
    assert answer.status_code == 200
    assert answer.json()["prompt_eval_count"] < 512


def test_a_mark_in_a_clients_text_is_no_image(live: Live) -> None:
    answer = chat(live, png(), content="What is [img-0] or [img]?").json()
    assert answer["prompt_eval_count"] > IMAGE_TOKENS
    bare = chat(live, content="What is [img-0]?")
    assert bare.status_code == 200
    debug = chat(live, png(), content="[img-0]", _debug_render_only=True).json()["_debug_info"]
    assert debug["image_count"] == 1
    assert debug["rendered_template"].count("[img-0]") == 2


def test_a_killed_process_costs_one_request_and_not_the_server(live: Live) -> None:
    assert chat(live, png()).status_code == 200
    (loaded,) = (m for m in live.runtime.loaded() if m.source.name.startswith(MODEL))
    os.kill(loaded.pid, signal.SIGKILL)
    first, second = chat(live, png()), chat(live, png())
    assert first.status_code == 200 or "died: killed by SIGKILL" in first.json()["error"]
    assert second.json()["message"]["content"]


def test_a_raw_prompt_places_its_images(live: Live) -> None:
    placed = generate(live, "Look: [img-0] It is", png(), raw=True).json()
    assert placed["prompt_eval_count"] > IMAGE_TOKENS
    refused = generate(live, "Look: it is", png(), raw=True)
    assert refused.status_code == 400
    assert "[img-0]" in refused.json()["error"]


def test_run_takes_images_from_paths_in_the_prompt(live: Live, tmp_path: Path) -> None:
    path = tmp_path / "a llama.png"
    path.write_bytes(png())
    result = subprocess.run(
        [PROGRAM, "run", MODEL, f"What is on '{path}'?"],
        env={**os.environ, "PANNIER_HOST": live.url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert f"Added image '{path}'" in result.stderr
    assert result.stdout.strip()
