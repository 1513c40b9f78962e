"""Ollama's REST surface over a scripted runtime: shapes, texts and statuses."""

import base64
import hashlib
import http.client
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from support.gguf import tiny_llama, tiny_projector
from support.http import connect
from support.scripted import USAGE, ScriptedRuntime, words
from support.tinyvision import png
from support.web import Reply, WebClient

from pannier.api.server import Server
from pannier.pkgmgr.digest import Digest
from pannier.pkgmgr.modelfile.build import create
from pannier.pkgmgr.modelfile.syntax import parse
from pannier.pkgmgr.reference import Reference
from pannier.pkgmgr.store.store import Store
from pannier.runtime.errors import ContextOverflow, QueueFull, RunnerDied
from pannier.runtime.interface import FOREVER
from pannier.runtime.request import Delta, FinishReason, Segment
from pannier.runtime.stats import EngineStats

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
HELLO = [{"role": "user", "content": "Hi"}]


def post(client: WebClient, path: str, **body: Any) -> Reply:
    return client.post(path, json=body)


def lines(response: Reply) -> list[dict[str, Any]]:
    assert response.data.endswith(b"\n")
    return [json.loads(line) for line in response.data.splitlines()]


def prompt_of(runtime: ScriptedRuntime) -> str:
    return "".join(segment.text for segment in runtime.requests[-1].prompt)


def test_the_root_says_what_every_client_looks_for(client: WebClient) -> None:
    assert client.get("/").data == b"Ollama is running"
    assert client.get("/").content_type.startswith("text/plain")
    assert client.head("/").status_code == 200
    assert client.head("/api/version").status_code == 200
    assert re.fullmatch(r"\d+\.\d+\.\d+", client.get("/api/version").json["version"])


def test_there_is_no_cloud_behind_the_server(client: WebClient) -> None:
    assert client.get("/api/status").json["cloud"]["disabled"] is True


def test_tags_list_models_with_bare_hex_digests(client: WebClient, store: Store) -> None:
    models = client.get("/api/tags").json["models"]
    assert [model["name"] for model in models] == ["team/guide:v1", "tiny:latest"]
    assert models[0]["model"] == "team/guide:v1"
    assert re.fullmatch("[0-9a-f]{64}", models[0]["digest"])
    assert models[0]["size"] > 100_000
    assert models[0]["details"]["family"] == "llama"
    assert set(models[0]["details"]) == {
        "parent_model", "format", "family", "families", "parameter_size", "quantization_level",
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-.*T.*(Z|[+-]\d\d:\d\d)", models[0]["modified_at"])


def test_a_chat_streams_ndjson_and_ends_with_its_metrics(client: WebClient) -> None:
    response = post(client, "/api/chat", model="tiny", messages=HELLO)
    assert response.content_type == "application/x-ndjson"
    *chunks, last = lines(response)
    assert [chunk["message"]["content"] for chunk in chunks] == ["Hello", " there", "!"]
    assert all(chunk["done"] is False and STAMP.fullmatch(chunk["created_at"]) for chunk in chunks)
    assert all(chunk["model"] == "tiny" for chunk in chunks)
    assert last["done"] is True
    assert last["done_reason"] == "stop"
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["prompt_eval_count"], last["eval_count"]) == (7, 3)
    assert (last["prompt_eval_duration"], last["eval_duration"]) == (5_000_000, 9_000_000)
    assert isinstance(last["total_duration"], int)
    assert isinstance(last["load_duration"], int)
    assert "context" not in last


def test_a_chat_without_stream_is_one_object(client: WebClient) -> None:
    response = post(client, "/api/chat", model="TINY:Latest", messages=HELLO, stream=False)
    assert response.content_type == "application/json; charset=utf-8"
    assert response.json["message"] == {"role": "assistant", "content": "Hello there!"}
    assert response.json["model"] == "TINY:Latest"
    assert response.json["done"] is True


def test_the_models_own_system_messages_and_options_are_used(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    post(client, "/api/chat", model="team/guide:v1", messages=HELLO, stream=False)
    assert prompt_of(runtime).endswith("<|user|>\nHi</s>\n<|assistant|>\n")
    assert prompt_of(runtime).startswith(
        "<|system|>\nYou are a llama.</s>\n<|user|>\nWhat carries?"
    )
    assert runtime.requests[-1].sampling.temperature == 0.5
    assert runtime.requests[-1].stop[0] == "<end>"


def test_options_of_the_request_go_first_and_unknown_ones_are_ignored(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    options = {"temperature": 0, "num_ctx": 1024, "num_predict": 5, "unheard_of": 1, "top_k": 3.9}
    post(client, "/api/chat", model="team/guide:v1", messages=HELLO, options=options, stream=False)
    assert runtime.requests[-1].sampling.temperature == 0
    assert runtime.requests[-1].sampling.top_k == 3
    assert runtime.requests[-1].max_tokens == 5
    load = runtime.options[-1]
    assert load is not None
    assert load.num_ctx == 1024


def test_options_that_are_null_are_not_there(client: WebClient, runtime: ScriptedRuntime) -> None:
    options = {"mirostat": None, "num_ctx": None, "temperature": None}
    post(client, "/api/chat", model="team/guide:v1", messages=HELLO, options=options, stream=False)
    assert runtime.requests[-1].sampling.temperature == 0.5


def test_generate_answers_with_response_and_context(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    runtime.steps = [Delta("Hi"), Delta(finish=FinishReason.LENGTH, usage=USAGE, context=(1, 2))]
    *chunks, last = lines(post(client, "/api/generate", model="tiny", prompt="Say hi"))
    assert [chunk["response"] for chunk in chunks] == ["Hi"]
    assert last["done_reason"] == "length"
    assert last["context"] == [1, 2]
    assert last["response"] == ""
    assert runtime.requests[-1].want_context


@pytest.mark.parametrize("token", [-1, 300, 10**30])
def test_a_token_that_the_model_has_not_is_refused(
    client: WebClient, runtime: ScriptedRuntime, token: int
) -> None:
    reply = post(client, "/api/generate", model="tiny", prompt="Hi", context=[5, token])
    assert reply.status_code == 400
    assert reply.json["error"] == "token ids of tiny:latest are from 0 to 299"
    reply = post(client, "/v1/completions", model="tiny", prompt=[token])
    assert reply.status_code == 400
    assert all(stream.cancelled.is_set() for stream in runtime.streams)


def test_context_goes_before_the_prompt_and_replaces_example_messages(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    post(client, "/api/generate", model="team/guide:v1", prompt="Hi", context=[5, 6], stream=False)
    assert runtime.requests[-1].context == (5, 6)
    assert "What carries?" not in prompt_of(runtime)


def test_raw_prompts_go_to_the_model_untouched(client: WebClient, runtime: ScriptedRuntime) -> None:
    post(client, "/api/generate", model="tiny", prompt="<s>a", raw=True, stream=False)
    assert runtime.requests[-1].prompt == (Segment("<s>a"),)
    assert not runtime.requests[-1].want_context


@pytest.mark.parametrize(("path", "key"), [("/api/generate", "response"), ("/api/chat", "message")])
def test_an_empty_request_loads_and_unloads(
    client: WebClient, runtime: ScriptedRuntime, path: str, key: str
) -> None:
    loaded = post(client, path, model="tiny", keep_alive="1h30m").json
    assert (loaded["done"], loaded["done_reason"]) == (True, "load")
    assert loaded[key] in ("", {"role": "assistant", "content": ""})
    assert "total_duration" not in loaded
    assert runtime.keep_alives == [5400.0]
    assert [model["name"] for model in client.get("/api/ps").json["models"]] == ["tiny:latest"]
    assert post(client, path, model="tiny", keep_alive=0).json["done_reason"] == "unload"
    assert post(client, path, model="tiny", keep_alive=0).json["done_reason"] == "unload"
    assert client.get("/api/ps").json["models"] == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (10, 10), (1.5, 1.5), (-1, FOREVER), (1e300, 2**63 // 10**9), ("-1s", FOREVER), ("0", 0),
        ("5m0s", 300), ("+1.5h", 5400), ("1h30m.5s", 5400.5), ("2.m", 120), (None, None),
    ],
)  # fmt: skip
def test_keep_alive_takes_all_its_json_forms(
    client: WebClient, runtime: ScriptedRuntime, value: object, seconds: float | None
) -> None:
    post(client, "/api/chat", model="tiny", messages=HELLO, keep_alive=value, stream=False)
    assert runtime.keep_alives == [seconds]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "invalid duration"),
        ("-", "invalid duration"),
        (" 5m", "invalid duration"),
        (".s", "invalid duration"),
        ("soon", "invalid duration"),
        ("9999999h", "invalid duration"),
        ("1" * 81, "invalid duration"),
        ("5", "missing unit in duration"),
        ("1.2.3s", "missing unit in duration"),
        ("1d", 'unknown unit "d" in duration'),
        ("5m 3s", 'unknown unit "m " in duration'),
    ],
)
def test_a_duration_that_is_none_is_refused_in_gos_words(
    client: WebClient, value: str, text: str
) -> None:
    reply = post(client, "/api/chat", model="tiny", messages=HELLO, keep_alive=value)
    assert reply.status_code == 400
    assert reply.json["error"] == f'time: {text} "{value[:80]}"'


def test_ps_shows_what_is_loaded(client: WebClient) -> None:
    post(client, "/api/generate", model="team/guide:v1", keep_alive=-1)
    (model,) = client.get("/api/ps").json["models"]
    assert model["name"] == model["model"] == "team/guide:v1"
    assert model["digest"] == client.get("/api/tags").json["models"][0]["digest"]
    assert (model["size"], model["size_vram"], model["context_length"]) == (123456, 0, 4096)
    assert model["expires_at"] > "2300"
    assert model["stats"] == EngineStats().record()


def test_show_describes_a_model(client: WebClient) -> None:
    shown = post(client, "/api/show", model="team/guide:v1").json
    assert shown["license"] == "MIT"
    assert shown["system"] == "You are a llama."
    assert sorted(shown["parameters"].splitlines()) == [
        'stop                           "<end>"',
        "temperature                    0.5",
    ]
    assert shown["modelfile"].startswith("FROM team/guide:v1\n")
    assert "add_generation_prompt" in shown["template"]
    assert shown["messages"][0] == {"role": "user", "content": "What carries?"}
    assert shown["model_info"]["general.architecture"] == "llama"
    assert shown["model_info"]["tokenizer.ggml.tokens"] is None
    assert shown["model_info"]["general.parameter_count"] > 0
    assert "tokenizer.chat_template" not in shown["model_info"]
    assert set(shown["tensors"][0]) == {"name", "type", "shape"}
    assert "completion" in shown["capabilities"]


def test_show_holds_arrays_where_asked_for(client: WebClient) -> None:
    shown = post(client, "/api/show", name="tiny", verbose=True).json
    assert shown["model_info"]["tokenizer.ggml.tokens"][:3] == ["<unk>", "<s>", "</s>"]


def test_copy_and_delete(client: WebClient) -> None:
    copied = post(client, "/api/copy", source="tiny", destination="other:one")
    assert (copied.status_code, copied.data) == (200, b"")
    assert client.get("/api/tags").json["models"][0]["name"] == "other:one"
    deleted = client.delete("/api/delete", json={"model": "other:one"})
    assert (deleted.status_code, deleted.data) == (200, b"")
    assert len(client.get("/api/tags").json["models"]) == 2


def test_render_only_shows_the_prompt(client: WebClient, runtime: ScriptedRuntime) -> None:
    body = {"model": "tiny", "messages": HELLO, "_debug_render_only": True}
    shown = client.post("/api/chat", json=body).json["_debug_info"]
    assert shown["rendered_template"] == "<|user|>\nHi</s>\n<|assistant|>\n"
    assert shown["image_count"] == 0
    assert runtime.requests == []


def test_images_go_to_the_engine_with_their_places(
    client: WebClient, store: Store, tmp_path: Path, runtime: ScriptedRuntime
) -> None:
    weights, projector = tiny_llama(tmp_path / "w.gguf"), tiny_projector(tmp_path / "mmproj.gguf")
    text = f"FROM {weights}\nFROM {projector}\n"
    create(store, parse(text), Reference.parse("seer"), base_dir=Path("/"))
    message = {"role": "user", "content": "What is this?", "images": ["aGVsbG8="]}
    reply = post(client, "/api/chat", model="seer", messages=[message])
    assert (reply.status_code, runtime.requests) == (400, [])
    assert "image" in reply.json["error"]
    message["images"] = [base64.b64encode(png()).decode()]
    assert post(client, "/api/chat", model="seer", messages=[message]).status_code == 200
    assert runtime.requests[-1].images == (png(),)
    assert [part.image for part in runtime.requests[-1].prompt] == [None, 0, None]


def test_a_model_is_created_from_an_uploaded_blob(client: WebClient, template_home: Path) -> None:
    data = (template_home / "tiny.gguf").read_bytes() + b""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert client.head(f"/api/blobs/{digest}").status_code == 200
    made = post(
        client, "/api/create", model="made", files={"tiny.gguf": digest}, system="S",
        parameters={"stop": ["x", "y"], "temperature": 0.25},
    )  # fmt: skip
    assert lines(made)[-1] == {"status": "success"}
    shown = post(client, "/api/show", model="made").json
    assert shown["system"] == "S"
    assert shown["parameters"].count("stop") == 2


@pytest.mark.parametrize("field", ["files", "adapters"])
def test_an_uploaded_file_that_is_no_gguf_is_refused_in_ollamas_words(
    client: WebClient, field: str
) -> None:
    data = b"not a model"
    digest = Digest.of(data)
    assert client.post(f"/api/blobs/{digest}", data=data).status_code == 201
    body = {"model": "new", "from": "tiny", field: {"a.safetensors": str(digest)}, "stream": False}
    if field == "files":
        del body["from"]
    reply = post(client, "/api/create", **body)
    assert reply.status_code == 400
    assert reply.json == {"error": "supplied file was not in GGUF format"}


def test_a_model_is_created_on_top_of_another(client: WebClient) -> None:
    body = {"from": "team/guide:v1", "model": "made", "system": "Else", "stream": False}
    assert client.post("/api/create", json=body).json == {"status": "success"}
    shown = post(client, "/api/show", model="made").json
    assert shown["system"] == "Else"
    assert shown["license"] == "MIT"


@pytest.mark.parametrize("template", ["{{ .Prompt", "{{ nothing .Prompt }}", "{{ end }}"])
def test_a_template_that_cannot_be_parsed_makes_no_model(client: WebClient, template: str) -> None:
    body = {"from": "tiny", "model": "made", "template": template, "stream": False}
    reply = client.post("/api/create", json=body)
    assert reply.status_code == 400
    assert "template" in reply.json["error"]
    assert post(client, "/api/show", model="made").status_code == 404


def test_blobs_are_taken_in_by_digest(client: WebClient, store: Store) -> None:
    data = b"some bytes"
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert client.head(f"/api/blobs/{digest}").status_code == 404
    assert client.post(f"/api/blobs/{digest}", data=data).status_code == 201
    assert client.post(f"/api/blobs/{digest}", data=data).status_code == 200
    assert client.head(f"/api/blobs/{digest}").status_code == 200
    wrong = client.post(f"/api/blobs/sha256:{'0' * 64}", data=b"x")
    assert wrong.status_code == 400
    assert wrong.json["error"].startswith('digest mismatch, expected "sha256:000')
    assert client.post("/api/blobs/nonsense", data=b"x").json == {"error": "invalid digest format"}


CASES: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/api/generate", {"model": "nope", "prompt": "x"}, 404, "model 'nope' not found"),
    ("POST", "/api/generate", {"prompt": "x"}, 404, "model '' not found"),
    ("POST", "/api/chat", {"model": "nope", "messages": HELLO}, 404, "model 'nope' not found"),
    ("POST", "/api/chat", {"messages": HELLO}, 400, "model is required"),
    ("POST", "/api/chat", {"model": "../../x", "messages": HELLO}, 400, "model is required"),
    ("POST", "/api/show", {}, 400, "model is required"),
    ("POST", "/api/show", {"model": "nope"}, 404, "model 'nope:latest' not found"),
    ("DELETE", "/api/delete", {"model": "nope"}, 404, "model 'nope' not found"),
    ("DELETE", "/api/delete", {"model": ":"}, 400, 'name ":" is invalid'),
    ("POST", "/api/copy", {"source": "a", "destination": "b"}, 404, 'model "a" not found'),
    ("POST", "/api/copy", {"source": "", "destination": "b"}, 400, 'source "" is invalid'),
    ("POST", "/api/copy", {"source": "a", "destination": ":"}, 400, 'destination ":" is invalid'),
    ("POST", "/api/pull", {}, 400, "invalid model name"),
    ("POST", "/api/create", {}, 400, "invalid model name"),
    ("POST", "/api/create", {"model": "x"}, 400, "neither 'from' or 'files' was specified"),
    ("POST", "/api/create", {"model": "x", "files": {}}, 400, "no files provided to convert"),
    ("POST", "/api/generate", {"model": "nope", "raw": True, "system": "s"}, 404,
     "model 'nope' not found"),
    ("POST", "/api/chat", {"model": "tiny", "messages": HELLO, "format": "xml"}, 400,
     'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'),
    ("POST", "/api/chat", {"model": "tiny", "messages": HELLO, "format": 5}, 400,
     'invalid format: "5"; expected "json" or a valid JSON Schema object'),
    ("POST", "/api/create", {"model": "x", "files": {"../a": "b"}}, 400,
     "file path must be relative"),
    ("POST", "/api/create", {"model": "x", "from": "tiny", "quantize": "q9_9"}, 400,
     "unknown quantization 'q9_9'"),
    ("POST", "/api/create", {"model": "x", "from": "tiny", "info": {"capabilities": ["x"]}}, 400,
     '"info" is not supported: what a model is, its files say'),
    ("POST", "/api/push", {}, 400, "model is required"),
    ("POST", "/api/pull", {"model": "http://localhost:9/a/b"}, 500, "insecure protocol http"),
    ("POST", "/api/push", {"model": "http://localhost:9/a/b", "stream": False}, 500,
     "insecure protocol http"),
    ("POST", "/api/push", {"model": "https://localhost:9/a/b", "stream": False}, 404,
     "model 'localhost:9/a/b:latest' not found"),
    ("POST", "/api/generate", {"model": "tiny", "prompt": "x", "raw": True, "system": "s"}, 400,
     "raw mode does not support template, system, or context"),
    ("POST", "/api/generate", {"model": "tiny", "prompt": "x", "top_logprobs": 21}, 400,
     "top_logprobs must be between 0 and 20"),
    ("POST", "/api/chat", {"model": "tiny", "messages": HELLO, "think": "hard"}, 400,
     'invalid think value: "hard" (must be "high", "medium", "low", "max", true, or false)'),
    ("POST", "/api/chat", {"model": "tiny", "messages": HELLO, "think": True}, 400,
     '"tiny" does not support thinking'),
    ("POST", "/api/chat", {"model": "tiny", "messages": HELLO, "options": {"num_ctx": "x"}}, 400,
     'option "num_ctx" must be of type integer'),
    ("POST", "/api/chat", {"model": "tiny", "messages": HELLO,
     "tools": [{"type": "function", "function": {"name": "f"}}]}, 400,
     "registry.ollama.ai/library/tiny:latest does not support tools"),
    ("POST", "/api/chat", {"model": "tiny", "keep_alive": True}, 400, "Unsupported type: 'bool'"),
    ("POST", "/api/chat", {"model": "tiny", "keep_alive": "soon"}, 400,
     'time: invalid duration "soon"'),
    ("POST", "/api/chat", None, 400, "missing request body"),
    ("HEAD", f"/api/blobs/sha256:{'1' * 64}", None, 404, ""),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), CASES)
def test_errors_have_ollamas_statuses_and_texts(
    client: WebClient, method: str, path: str, body: Any, status: int, text: str
) -> None:
    response = client.open(path, method=method, json=body) if body is not None else client.open(
        path, method=method
    )  # fmt: skip
    assert response.status_code == status
    if text:
        assert response.json == {"error": text}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"{", "invalid JSON"),
        (b"[]", "must be an object"),
        (b'{"model": 1}', "invalid model: expected a string"),
        (b'{"model":"tiny","messages":[{"role":"user","content":7}]}', "messages.0.content"),
        (b'{"model":"tiny","stream":"yes"}', "invalid stream: expected a boolean"),
        (b'{"model":"\xff"}', "invalid JSON"),
        (b'{"model":NaN}', "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
    ],
)
def test_malformed_bodies_say_what_is_wrong(client: WebClient, raw: bytes, text: str) -> None:
    response = client.post("/api/chat", data=raw)
    assert response.status_code == 400
    assert text in response.json["error"]


def test_unknown_paths_and_methods_get_gins_texts(client: WebClient) -> None:
    unknown = client.get("/api/nothing")
    assert (unknown.status_code, unknown.data) == (404, b"404 page not found")
    wrong = client.get("/api/chat")
    assert (wrong.status_code, wrong.data) == (405, b"405 method not allowed")
    assert wrong.headers["Allow"] == "OPTIONS, POST"


def test_a_failure_before_the_first_token_has_a_status(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    runtime.steps = [ContextOverflow(5000, 4096)]
    response = post(client, "/api/chat", model="tiny", messages=HELLO, truncate=False)
    assert response.status_code == 400
    assert response.json["error"].startswith("the prompt is longer than the context length")


def test_a_full_queue_is_503_and_says_when_to_come_back(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    runtime.steps = [QueueFull(512, retry_after_s=7)]
    response = post(client, "/api/chat", model="tiny", messages=HELLO)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "7")
    text = "server busy, please try again.  maximum pending requests exceeded"
    assert response.json == {"error": text}


def test_a_runner_that_dies_leaves_an_error_line(
    client: WebClient, runtime: ScriptedRuntime
) -> None:
    runtime.steps = [Delta("Hel"), RunnerDied("the runner of tiny died", signal="SIGKILL")]
    assert lines(post(client, "/api/chat", model="tiny", messages=HELLO)) [-1] == {
        "error": "the runner of tiny died"
    }  # fmt: skip
    runtime.steps = words("ok")
    assert post(client, "/api/chat", model="tiny", messages=HELLO, stream=False).status_code == 200


def test_a_client_that_leaves_during_a_silent_prompt_cancels_it(
    server: Server, runtime: ScriptedRuntime
) -> None:
    runtime.steps = [threading.Event()]
    body = json.dumps({"model": "tiny", "messages": HELLO}).encode()
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    asked = threading.Event()
    runtime.on_load = asked.set
    with connect(server) as client:
        client.sendall(head + body)
        assert asked.wait(10)
    while not runtime.streams:
        asked.wait(0.01)
    assert runtime.streams[0].cancelled.wait(10)


def test_a_client_that_leaves_while_the_model_loads_cancels_its_request(
    server: Server, runtime: ScriptedRuntime
) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load() -> None:
        loading.set()
        go_on.wait(10)

    runtime.on_load = load
    body = json.dumps({"model": "tiny", "messages": HELLO}).encode()
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with connect(server) as client:
        client.sendall(head + body)
        assert loading.wait(10)
    other = http.client.HTTPConnection(server.netloc, timeout=10)
    other.request("GET", "/api/tags", headers={"Host": "localhost"})
    assert other.getresponse().status == 200
    other.close()
    threading.Event().wait(0.3)
    go_on.set()
    while not runtime.streams:
        loading.wait(0.01)
    assert runtime.streams[0].cancelled.wait(10)
