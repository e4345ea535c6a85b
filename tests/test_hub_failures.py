"""Failures of the Hub, each with a line of its own, and a cache that is damaged."""

import json
from pathlib import Path

import pytest
from hub_server import HubServer
from test_hub import client

from depthaware.pretrained import hub_client, locate

STATUS = {401: "log in", 403: "accept the terms", 404: "no such", 429: "too many requests", 500: "try again later"}


@pytest.fixture
def server(tiny_weights):
    with HubServer() as server:
        server.commit("me/tiny", {path.name: path.read_bytes() for path in Path(tiny_weights).iterdir()})
        yield server


def test_each_status_has_its_own_line(server, tmp_path):
    server.failures = {f"me/s{status}": status for status in STATUS}
    code = f"""
import time
time.sleep = lambda _: None  # between the client's own attempts
for status in {list(STATUS)}:
    out[str(status)] = refusal(DaGAN.from_pretrained, f"me/s{{status}}")
"""
    out = client(code, server.url, tmp_path)
    for status, expected in STATUS.items():
        line = out[str(status)]
        assert f"Hub weights 'me/s{status}': " in line and expected in line and "\n" not in line, line
    assert len({line.partition("': ")[2] for line in out.values()}) >= 4
    assert "out of reach" not in json.dumps(out)


def test_a_damaged_cache_is_fetched_once_more_or_named_with_its_cure(server, tmp_path):
    code = f"""
import pathlib
DaGAN.from_pretrained("me/tiny")
home = pathlib.Path({str(tmp_path)!r})
blob = next(home.rglob("snapshots/*/model.safetensors")).resolve()
good = blob.read_bytes()
blob.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))  # one bit
DaGAN.from_pretrained("me/tiny")
out["mended"] = blob.read_bytes() == good
blob.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
import huggingface_hub
huggingface_hub.snapshot_download = lambda *args, **options: str(next(home.rglob("snapshots/*")))
out["line"] = refusal(DaGAN.from_pretrained, "me/tiny")
"""
    out = client(code, server.url, tmp_path)
    assert out["mended"]
    assert out["line"].startswith("ValueError: Hub weights 'me/tiny': model.safetensors is damaged in the cache")
    assert out["line"].endswith(f"clear it with: rm -r {tmp_path}/hub/models--me--tiny")


def test_a_timeout_is_named():
    class ReadTimeout(Exception):
        pass

    line = hub_client.hub_error("Hub weights 'a/b'", ReadTimeout("x"))
    assert isinstance(line, OSError) and "did not answer in time" in str(line)


def test_bundled_and_local_files_have_no_digest(tiny_weights):
    assert all(hub_client.is_whole(Path(tiny_weights) / name) for name in (locate.CONFIG, locate.WEIGHTS))
