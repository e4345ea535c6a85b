"""Save and load: exact, strict, all or nothing; the real Hub client against a Hub on this machine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import conftest
import pytest
import torch
from hub_server import HubServer
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from depthaware.dagan import DaGAN
from depthaware.pretrained import hub, locate

TINY = conftest.TINY | {
    "num_keypoints": 3,
    "depth_encoder": "test_resnet",
    "hourglass_max_features": 8,
    "num_hourglass_blocks": 1,
    "generator_max_features": 8,
    "num_down_blocks": 1,
}
ROWS = {  # of the paper's Table 4, and what comes with it
    "baseline": {"keypoint_input": "rgb", "attention": "none"},
    "w/ FDN": {"attention": "none"},
    "w/ CAM": {"keypoint_input": "rgb"},
    "Ours (SA)": {"attention": "self"},
    "DaGAN": {},
    "depth alone": {"keypoint_input": "depth"},
    "SPADE": {"decoder": "spade"},
    "released sampling": {"align_corners": False},
    "as printed": {"attention_form": "paper", "estimate_jacobian": False},
}
FILES = ["README.md", "config.json", "model.safetensors"]


def tiny(**options) -> DaGAN:
    torch.manual_seed(0)
    return DaGAN(**TINY | options).eval()


def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(1, 3, 64, 64, generator=generator) for _ in range(2))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(folder: Path | str, **options) -> str:
    """The one line with which loading is refused."""
    with pytest.raises(ValueError) as caught:
        DaGAN.from_pretrained(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    tiny().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("row", ROWS)
@torch.no_grad()
def test_what_is_saved_comes_back_exactly(row, tmp_path):
    model = tiny(**ROWS[row])
    model.save_pretrained(tmp_path, card="# Mine")
    loaded = DaGAN.from_pretrained(tmp_path)
    assert names(tmp_path) == FILES
    assert json.loads((tmp_path / "config.json").read_text()) == model.config == loaded.config
    assert not loaded.training and loaded.card == "# Mine"
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(loaded(*images()).prediction, model(*images()).prediction, rtol=0, atol=0)


@settings(max_examples=15, deadline=None)
@given(
    num_keypoints=st.integers(1, 4),
    keypoint_input=st.sampled_from(["rgb", "rgbd", "depth"]),
    attention=st.sampled_from(["cross", "self", "none"]),
    decoder=st.sampled_from(["plain", "spade"]),
    num_hourglass_blocks=st.integers(1, 2),
    num_down_blocks=st.integers(1, 2),
    scale_factor=st.sampled_from([1.0, 0.5, 0.25]),
    blend=st.booleans(),
    attention_form=st.sampled_from(["released", "paper"]),
    estimate_jacobian=st.booleans(),
)
def test_every_configuration_comes_back(tmp_path_factory, **options):
    folder = tmp_path_factory.mktemp("law")
    model = tiny(**options)
    model.save_pretrained(folder)
    loaded = DaGAN.from_pretrained(folder)
    assert loaded.config == model.config
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_half_precision_on_disk(saved, tmp_path):
    tiny().save_pretrained(tmp_path / "half", dtype=torch.float16)
    assert {t.dtype for t in load_file(tmp_path / "half/model.safetensors").values()} == {torch.float16, torch.int64}
    assert (tmp_path / "half/model.safetensors").stat().st_size < 0.6 * (saved / "model.safetensors").stat().st_size
    half = DaGAN.from_pretrained(tmp_path / "half")
    assert next(half.parameters()).dtype == torch.float32
    torch.testing.assert_close(half.state_dict(), tiny().state_dict(), rtol=1e-3, atol=1e-4)


def test_saving_what_was_loaded_keeps_the_card(saved, tmp_path):
    (saved / "README.md").write_text("# Trained on nobody")
    DaGAN.from_pretrained(saved).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again/README.md").read_text() == "# Trained on nobody"
    DaGAN.from_pretrained(saved).save_pretrained(tmp_path / "again", card="# New")
    assert (tmp_path / "again/README.md").read_text() == "# New"


def test_a_subclass_loads_as_itself(saved):
    class Mine(DaGAN):
        def forward(self, source_image, driving_image):
            return super().forward(source_image, driving_image)._replace(disparity_driving=None)

    assert type(Mine.from_pretrained(saved)) is Mine


def test_a_subclass_with_an_option_of_its_own_loads(tmp_path):
    class Mine(DaGAN):
        def __init__(self, *, mood: str = "calm", **options):
            super().__init__(**options)
            self.config |= {"mood": mood}

    Mine(mood="glad", **TINY).save_pretrained(tmp_path)
    assert Mine.from_pretrained(tmp_path).config["mood"] == "glad"
    assert "mood" in refusal(tmp_path)


KEY = "generator.attention.query.weight"


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda t: t.pop(KEY), f"missing {KEY}"),
        (lambda t: t.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda t: t.update({KEY: torch.zeros(1, 2)}), rf"{KEY} is \(1, 2\), expected \(1, 8, 1, 1\)"),
        (lambda t: t[KEY].fill_(float("nan")), f"{KEY} has values that are not finite"),
        (lambda t: t[KEY].fill_(float("inf")), f"{KEY} has values that are not finite"),
        (lambda t: t.clear(), "missing .* more"),
    ],
)
def test_weights_that_do_not_fit_are_refused(saved, change, expected):
    weights = load_file(saved / "model.safetensors")
    change(weights)
    save_file(weights, saved / "model.safetensors")
    line = refusal(saved)
    assert str(saved / "model.safetensors") in line and re.search(expected, line), line


BAD_FILES = {
    "config without options": ("config.json", b"[]", "expected an object"),
    "config that is not JSON": ("config.json", b"{", "not JSON"),
    "config that is not text": ("config.json", b"\xff\xfe\x00", "not JSON"),
    "config too deep": ("config.json", b"[" * 200_000, "not JSON"),
    "unknown option": ("config.json", b'{"color": 1}', "color"),
    "unknown choice": ("config.json", b'{"decoder": "magic"}', "decoder: expected 'plain' or 'spade', got 'magic'"),
    "unknown encoder": ("config.json", b'{"depth_encoder": "resnet19"}', "resnet19"),
    "option of the wrong type": ("config.json", b'{"num_keypoints": "many"}', "config.json"),
    "impossible width": ("config.json", b'{"num_keypoints": -1}', "num_keypoints: expected a whole number from 1"),
    "config of another model": (
        "config.json",
        json.dumps(TINY | {"num_keypoints": 4}).encode(),
        r"is \(8, 16, 3, 3\), expected \(8, 20, 3, 3\)",
    ),
    "empty weights": ("model.safetensors", b"", "is an empty file, download it again"),
    "pickled weights": (
        "model.safetensors",
        b"\x80\x02}q\x00." * 20,
        "is a Python pickle, expected a safetensors file",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_are_refused(kind, saved):
    name, content, expected = BAD_FILES[kind]
    (saved / name).write_bytes(content)
    line = refusal(saved)
    assert str(saved) in line and re.search(expected, line), line


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_truncated_weights_are_refused(share, saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "not a whole safetensors file" in refusal(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(name, saved):
    (saved / name).unlink()
    assert f"no {name}" in refusal(saved)


def test_pickles_are_never_read(saved):
    (saved / "model.safetensors").unlink()
    torch.save(tiny().state_dict(), saved / "pytorch_model.bin")
    assert "no model.safetensors" in refusal(saved)


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "/no/where", "a/b/c", Path("user/model")])
def test_a_name_that_is_nothing_is_refused(name):
    assert "expected a folder, a Hub id 'user/model' or a bundled name" in refusal(name)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_midway_leaves_the_old_files(failure, saved, monkeypatch):
    before = {name: (saved / name).read_bytes() for name in FILES}

    def broken(config, indent):  # called when the weights are written already
        raise failure

    monkeypatch.setattr(hub.json, "dumps", broken)
    with pytest.raises(KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else ValueError):
        tiny(num_keypoints=5).save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_saving_where_nothing_can_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="file: the weights cannot be written"):
        tiny().save_pretrained(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_weights_that_could_not_be_loaded_are_not_saved(tmp_path):
    model = tiny()
    model.generator.attention.gate.data.fill_(1e6)
    with pytest.raises(ValueError, match="gate has values that are not finite"):
        model.save_pretrained(tmp_path / "half", dtype=torch.float16)  # whose largest number is 65504
    assert not (tmp_path / "half").exists()


# The client reads HF_ENDPOINT when it is imported, and timm has imported it here: hence a process of its own.
def client(code: str, url: str, home: Path, **environment: str) -> dict:
    """Run `code`, which fills the dict `out`, as a user of the Hub at `url` whose cache is in `home`."""
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_test"}
    result = subprocess.run(
        [sys.executable, "-c", _PRELUDE + code + "\nprint(json.dumps(out))"],
        env={**os.environ, **settings, "PYTHONPATH": str(Path(hub.__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


_PRELUDE = """
import json, sys
from depthaware.dagan import DaGAN
out = {}
def refusal(call, *args, **options):
    try:
        call(*args, **options)
    except (ValueError, OSError) as error:
        return f"{'OSError' if isinstance(error, OSError) else 'ValueError'}: {error}"
"""


@pytest.fixture
def server():
    with HubServer() as server:
        yield server


def test_pushed_weights_come_back(server, saved, tmp_path):
    (saved / "README.md").write_text("---\nlicense: other\n---\n# Mine")
    code = f"""
model = DaGAN.from_pretrained({str(saved)!r})
out["url"] = model.push_to_hub("me/tiny")
DaGAN.from_pretrained("me/tiny").save_pretrained({str(tmp_path / "back")!r})
"""
    out = client(code, server.url, tmp_path / "home")
    assert out["url"].startswith(f"{server.url}/me/tiny/commit/")
    pushed = server.files("me/tiny")
    for name in FILES:
        assert pushed[name] == (saved / name).read_bytes() == (tmp_path / "back" / name).read_bytes()
    assert sorted(pushed) == [".gitattributes", *FILES]


def test_a_revision_pins_the_weights_and_the_cache_works_offline(server, saved, tmp_path):
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in saved.iterdir()}

    first = server.commit("me/tiny", files() | {"pytorch_model.bin": b"never fetched"})
    tiny(num_keypoints=4).save_pretrained(saved)
    server.commit("me/tiny", files())
    code = f"""
out["pinned"] = DaGAN.from_pretrained("me/tiny", revision={first!r}).config["num_keypoints"]
out["latest"] = DaGAN.from_pretrained("me/tiny").config["num_keypoints"]
"""
    online = client(code, server.url, tmp_path)
    assert online == {"pinned": 3, "latest": 4}
    assert not any("pytorch_model.bin" in request for request in server.requests)
    code += 'out["other"] = refusal(DaGAN.from_pretrained, "me/other")'
    offline = client(code, "http://127.0.0.1:9", tmp_path)  # where nobody listens
    assert re.fullmatch("OSError: Hub weights 'me/other': not downloaded before, .* out of reach .*", offline["other"])
    assert offline | {"other": None} == online | {"other": None}


def test_what_the_hub_lacks_is_one_line(server, saved, tmp_path):
    server.commit("me/pickled", {"config.json": json.dumps(TINY).encode(), "pytorch_model.bin": b"\x80"})
    code = f"""
for name, *revision in (["me/none"], ["me/pickled"], ["me/pickled", "0" * 40], ["me/pickled", "v2"], ["a b/c"]):
    out[" ".join([name, *revision])] = refusal(DaGAN.from_pretrained, name, revision=revision[0] if revision else None)
out["push"] = refusal(DaGAN.from_pretrained({str(saved)!r}).push_to_hub, "me/mine")
"""
    out = client(code, server.url, tmp_path, HF_TOKEN="")
    expected = {
        "me/none": "ValueError: Hub weights 'me/none': no such repository",
        "me/pickled": "no model.safetensors",
        "me/pickled " + "0" * 40: "no such revision",
        "me/pickled v2": "no such revision",
        "a b/c": "ValueError: Hub weights 'a b/c'",
        "push": "OSError: Hub repository 'me/mine'",
    }
    assert out.keys() == expected.keys()
    for name, line in out.items():
        assert expected[name] in line and "\n" not in line, (name, line)
    assert "me/mine" not in server.repos


@pytest.mark.parametrize("path", ["./dagan-tiny", Path("dagan-tiny")])
def test_a_folder_written_as_a_path_wins_over_bundled_weights(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny(num_keypoints=4).save_pretrained("dagan-tiny")
    assert DaGAN.from_pretrained(path).config["num_keypoints"] == 4
    assert DaGAN.from_pretrained(str(tmp_path / "dagan-tiny")).config["num_keypoints"] == 4


def test_a_folder_named_like_bundled_weights_is_warned_about(tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    assert locate.find("dagan-tiny") == locate.find(Path("dagan-tiny")) and not recwarn.list
    tiny().save_pretrained("dagan-tiny")
    with pytest.warns(UserWarning, match=r"^weights 'dagan-tiny': are the bundled ones, .* write './dagan-tiny'$"):
        assert locate.find("dagan-tiny") == Path(hub.__file__).parents[1] / "assets/weights/dagan-tiny"


def test_a_revision_is_for_the_hub(saved):
    for name in ("dagan-tiny", saved):
        with pytest.raises(ValueError, match="revision 'v1' is for Hub weights"):
            DaGAN.from_pretrained(name, revision="v1")


@pytest.mark.parametrize("size", ["big", 256.0, None, 0])
def test_an_impossible_image_size_is_refused(saved, size):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"image_size": size}))
    assert "image_size: expected a whole number from 1 to 8192, got" in refusal(saved)


@pytest.mark.parametrize("value", [None, 18, "hf-hub:user/model"])
def test_an_impossible_encoder_is_one_line(saved, value):
    config = json.loads((saved / "config.json").read_text()) | {"depth_encoder": value}
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json: "):
        DaGAN.from_pretrained(saved)
