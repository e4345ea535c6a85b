"""The recipes run; what they leave behind loads; what is wrong with the input ends them with one line."""

import json
import re
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
import train_dagan
import train_depth
from clips import make_clip
from conftest import TINY
from hub_server import HubServer
from huggingface_hub import HfApi
from recipes import SIZE, fresh, in_processes, shrink, stats, train, weights, write_data
from safetensors.torch import save_file
from torch import nn

from depthaware import DaGAN, RGBDKeypointDetector, SelfSupDepthNet
from depthaware.losses import VGG19Features
from depthaware.training import options
from depthaware.training.ema import EMA
from depthaware.training.run_options import RESUMABLE

each_recipe = pytest.mark.parametrize("recipe", [train_depth, train_dagan], ids=["depth", "dagan"])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shrink(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "clips")


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What a run leaves.


def test_the_depth_of_stage_1_goes_into_stage_2_and_stays(data, tmp_path):
    train(train_depth, data, tmp_path / "depth")
    train(train_dagan, data, tmp_path / "dagan", depth=str(tmp_path / "depth"), sample_every=4, hold_out=1)
    model = DaGAN.from_pretrained(tmp_path / "dagan" / "weights")
    depth = SelfSupDepthNet.from_pretrained(tmp_path / "depth").state_dict()
    assert depth.keys() == model.depth_net.state_dict().keys()
    for name, value in model.depth_net.state_dict().items():  # batch-norm statistics too; float16 on disk
        torch.testing.assert_close(value, depth[name].half().to(value.dtype))
    assert [path.name for path in (tmp_path / "dagan" / "samples").iterdir()] == ["000000004.png"]
    assert "adversarial" in stats(tmp_path / "dagan")[0] and "examples/train_dagan.py" in model.card


def shown_in_card(run: Path) -> dict:
    return json.loads(DaGAN.from_pretrained(run / "weights").card.split("```json\n")[1].split("```")[0])


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_the_card_has_the_options_of_the_run_without_paths(precision, data, tmp_path):
    train(train_dagan, data, tmp_path, images=2, precision=precision, pyramid=None, num_keypoints=4)
    made_by = json.loads((tmp_path / "options.json").read_text())
    assert made_by["depth"] == str(data.parent / "depth") and made_by["precision"] in ("bfloat16", "float32")
    expected = {name: value for name, value in made_by.items() if name not in RESUMABLE}
    assert shown_in_card(tmp_path) == expected | {"depth": "depth"}
    assert (expected["size"], expected["pyramid"], expected["num_keypoints"]) == (64, 0.0, 4)


def test_a_model_without_a_depth_network_claims_no_depth(data, tmp_path):
    train(train_dagan, data, tmp_path, images=2, keypoint_input="rgb", attention="none")
    assert json.loads((tmp_path / "options.json").read_text())["depth"] is None
    assert shown_in_card(tmp_path)["depth"] is None


@each_recipe
def test_all_that_is_to_be_trained_gets_gradients_and_the_rest_stays(recipe, data, tmp_path):
    """Adam has a state for what got one; of stage 2 the depth network is frozen, of stage 1 the scales not used."""
    chosen = train(recipe, data, tmp_path, images=2)
    start, found = recipe.build(recipe.resolve(chosen)), weights(tmp_path)
    frozen = [name for name, parameter in start.named_parameters() if not parameter.requires_grad]
    parameters = len(list(start.parameters())) - len(frozen)
    assert sum(name.startswith("/optimizer/state/") and name.endswith("/step") for name in found) == parameters
    if recipe is train_dagan:
        assert frozen == [f"depth_net.{name}" for name, _ in start.depth_net.named_parameters()]
        frozen = [name for name in start.state_dict() if name.startswith("depth_net.")]  # batch-norm statistics too
    assert frozen and all(torch.equal(start.state_dict()[name], found[f"/model/{name}"]) for name in frozen)


@pytest.mark.parametrize(
    "recipe, changes", [(train_depth, {}), (train_dagan, {"adversarial": 0.0, "feature_matching": 0.0})]
)
def test_a_step_of_the_papers_network(recipe, changes, data, tmp_path, monkeypatch, capsys):
    SelfSupDepthNet().save_pretrained(tmp_path / "depth")
    changes = changes if recipe is train_depth else changes | {"depth": str(tmp_path / "depth"), "motion_size": 64}
    changes = changes if recipe is train_dagan else {"encoder_weights": "random"}  # the others would be downloaded
    train(recipe, data, tmp_path / "run", preset="paper", dry_run=True, **changes)
    assert "dry run: one step of 2 images went well; nothing was written" in capsys.readouterr().out


def test_fine_tuning_starts_from_any_weights_at_another_size(data, tmp_path, tiny_model, tiny_weights):
    chosen = train(
        train_dagan,
        data,
        tmp_path,
        init=tiny_weights,
        depth=None,
        size=128,
        motion_size=32,
        images=2,
        learning_rate=None,
    )
    tuned = DaGAN.from_pretrained(tmp_path / "weights")
    assert tuned.config == tiny_model.config | {"image_size": 128, "scale_factor": 0.25}
    for found, value in zip(tuned.parameters(), tiny_model.parameters(), strict=True):  # hardly move at so low a rate
        torch.testing.assert_close(found, value, atol=1e-3, rtol=1e-3)
    found = json.loads((tmp_path / "options.json").read_text())
    assert found["learning_rate"] == 2e-5 and found["depth"] is None and chosen.learning_rate is None


@pytest.mark.parametrize(
    "init, given, expected", [(None, None, 2e-4), ("dagan-tiny", None, 2e-5), ("dagan-tiny", 1e-3, 1e-3)]
)
def test_the_highest_learning_rate_is_the_papers_unless_weights_are_trained_already(init, given, expected):
    chosen = train_dagan.resolve(train_dagan.Options("data", init=init, learning_rate=given))
    rates = [train_dagan.learning_rate(chosen, images) for images in range(8, chosen.images + 1, 8)]
    assert 0.98 * expected < max(rates) <= expected
    assert rates[0] < 0.05 * expected and rates[-1] == pytest.approx(0.05 * expected, rel=0.01)


def test_the_average_is_the_sum_of_decayed_weights():
    """Against the closed form, with the decay that rises from the start."""
    net = nn.BatchNorm2d(1)
    average = EMA(net, decay=0.5)
    values = [torch.rand(()) for _ in range(6)]
    for step, value in enumerate(values, 1):
        nn.init.constant_(net.weight, value.item())
        net.running_mean.fill_(value)
        net.num_batches_tracked += 1
        average.update(net, step)
    decays = [min(0.5, step / (step + 10)) for step in range(1, 7)]
    shares = [(1 - decays[i]) * torch.tensor(decays[i + 1 :]).prod() for i in range(6)]
    expected = torch.tensor(decays).prod() + sum(s * v for s, v in zip(shares, values, strict=True))
    torch.testing.assert_close(average.network.weight, expected.view(1), check_stride=False)
    assert average.network.num_batches_tracked == 6 and not average.network.training
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_the_perceptual_loss_takes_a_file_with_the_weights_of_vgg(data, tmp_path, capsys):
    torch.manual_seed(0)
    values = {f"features.{key}": value for key, value in VGG19Features().layers.state_dict().items()}
    save_file(values, tmp_path / "vgg19.safetensors")
    features = str(tmp_path / "vgg19.safetensors")
    changes = dict(size=128, motion_size=32, features=features, pyramid=None, deformed=None)
    train(train_dagan, data, tmp_path / "run", images=2, **changes)
    line = stats(tmp_path / "run")[0]
    assert line["perceptual"] > 0 and "pyramid" not in line and "no VGG-19" not in capsys.readouterr().out


def test_without_vgg_something_else_stands_in_and_is_named(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.setattr("depthaware.training.frozen_features.try_to_load_from_cache", lambda *_: None)
    train(train_dagan, data, tmp_path, images=2, features="vgg19", pyramid=None, deformed=None)
    assert "no VGG-19: a pyramid of SSIM and L1 (--pyramid 100) replaces" in capsys.readouterr().out
    line = stats(tmp_path)[0]
    assert line["pyramid"] > 0 and line["deformed"] > 0 and "perceptual" not in line


@pytest.mark.parametrize("features", ["random", "depth"])
def test_other_networks_for_the_perceptual_loss(features, data, tmp_path):
    train(train_dagan, data, tmp_path, images=2, features=features, size=128, motion_size=32)
    assert stats(tmp_path)[0]["perceptual"] > 0


@each_recipe
def test_the_weights_go_to_the_hub_and_nothing_else(recipe, data, tmp_path, monkeypatch, capsys):
    with HubServer() as server:
        monkeypatch.setattr(HfApi, "__init__", _at(server, HfApi.__init__))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        train(recipe, data, tmp_path, images=2, push_to_hub="me/heads")
        files = server.files("me/heads")
    names = {"README.md", "config.json", "model.safetensors"}
    assert files.keys() - {".gitattributes"} == names
    folder = tmp_path if recipe is train_depth else tmp_path / "weights"
    assert all(files[name] == (folder / name).read_bytes() for name in names)
    assert "/me/heads/commit/" in capsys.readouterr().out.splitlines()[-1]


def _at(server: HubServer, original):
    def init(self, *arguments, **changes):
        original(self, endpoint=server.url, token="hf_test")

    return init


@each_recipe
def test_a_dry_run_writes_nothing(recipe, data, tmp_path, capsys):
    train(recipe, data, tmp_path / "run", dry_run=True)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out.splitlines()[-1].startswith("dry run: one step of 2 images went well")
    train(recipe, data, tmp_path / "run", images=2)
    before = tree(tmp_path)
    train(recipe, data, tmp_path / "run", images=2, dry_run=True)
    assert tree(tmp_path) == before


# What goes wrong while training.


def poison(monkeypatch, name: str, wrong) -> None:
    """Let this loss of stage 2 be another one in the second step."""
    original, calls = train_dagan.substitute_losses, iter(range(1))

    def losses(*arguments, **weights):
        terms = original(*arguments, **weights)
        if next(calls, None) is None:
            terms[name] = wrong(terms[name])
        return terms

    monkeypatch.setattr(train_dagan, "substitute_losses", losses)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            lambda term: term * float("nan"),
            "after 4 images the loss 'pyramid' is nan: stopped, the last good weights are",
        ),
        (lambda term: term / 0, "after 4 images the loss 'pyramid' is inf: stopped"),
        (
            lambda term: term + (term - term.detach()) * 1e38 * 1e6,
            "after 4 images the norm of the gradient is (inf|nan)",
        ),
    ],
)
def test_what_is_not_finite_is_named_and_the_last_good_weights_stay(wrong, message, data, tmp_path, monkeypatch):
    poison(monkeypatch, "pyramid", wrong)
    with pytest.raises(ValueError, match=message):
        train(train_dagan, data, tmp_path, checkpoint_every=2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["000000002.pt"]
    assert all(value.isfinite().all() for value in weights(tmp_path).values())
    DaGAN.from_pretrained(tmp_path / "weights")


# What is wrong with the input.


def ends(recipe, monkeypatch, capsys, *flags: object) -> str:
    """The one line that a recipe ends with."""
    fresh()
    monkeypatch.setattr(
        sys, "argv", ["recipe", "--size=64", "--batch=2", "--images=4", "--hold-out=0", *map(str, flags)]
    )
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        options.run_recipe(recipe.main, recipe.Options, "")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def broken(data: Path, to: Path) -> Path:
    """Three whole clips, one of another size, one that is no video, one that is cut short, one with a single frame."""
    shutil.copytree(data, to)
    clips = to / "train" / "clips"
    make_clip(clips / "large.mp4", 8, (96, 80))
    make_clip(clips / "single.mp4", 1, (SIZE, SIZE))
    (clips / "text.mp4").write_text("not a video")
    (clips / "cut.mp4").write_bytes((clips / "person0.mp4").read_bytes()[:-800])
    with open(to / "manifest.csv", "a") as file:
        file.writelines(f"{name},clip,train,{name}\n" for name in ("large", "single", "text", "cut"))
    return to


@each_recipe
def test_broken_clips_are_named_and_training_goes_on(recipe, data, tmp_path):
    folder = broken(data, tmp_path / "clips")
    shutil.copytree(data.parent / "depth", tmp_path / "depth")
    with pytest.warns(UserWarning, match="skipping") as said:
        train(recipe, folder, tmp_path / "run", images=24)
    skipped = sorted(
        str(warning.message).split("skipping ")[1] for warning in said if "skipping" in str(warning.message)
    )
    assert [line.split(":")[0] for line in skipped] == ["cut", "single", "text"]
    assert skipped[1].startswith(f"single: has 1 frame, expected at least {3 if recipe is train_depth else 2}")
    assert stats(tmp_path / "run")[-1]["images"] == 24


@each_recipe
def test_bad_data_is_one_line_and_leaves_nothing(recipe, data, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    only = tmp_path / "only"
    (only / "train" / "clips").mkdir(parents=True)
    make_clip(only / "train" / "clips" / "single.mp4", 1, (SIZE, SIZE))
    (only / "manifest.csv").write_text("name,kind,split,identity\nsingle,clip,train,single\n")
    flags = [f"--output={tmp_path / 'run'}", f"--depth={data.parent / 'depth'}", "--features=none", "--motion-size=16"]
    flags = flags if recipe is train_dagan else flags[:1]
    for folder in ("empty", "absent"):
        assert str(tmp_path / folder) in ends(recipe, monkeypatch, capsys, f"--data={tmp_path / folder}", *flags)
    assert "hold_out" in ends(recipe, monkeypatch, capsys, f"--data={data}", *flags, "--hold-out=4")
    assert not (tmp_path / "run").exists()
    line = ends(recipe, monkeypatch, capsys, f"--data={only}", *flags)
    assert "none of its 1 clips can be used: single: has 1 frame" in line


BAD = {
    "--depth=nowhere": "error: --depth nowhere: expected a folder of train_depth.py or of DaGAN weights, found no conf",
    "--depth=other": r"error: --depth other: has encoder resnet18.*, expected that of the --preset, test_resnet",
    "--depth=wide": r"error: --depth wide: has decoder_channels \[16, 32, .*, expected that of the --preset, \[4, 4, 8",
    "--depth=text": "text/model.safetensors: is text, expected a safetensors file",
    "--depth=flat": "error: flat: expected weights of SelfSupDepthNet or of a DaGAN with one, found no depth netw",
    "--depth=keypoints": "error: keypoints: expected weights of SelfSupDepthNet or DaGAN, found those of RGBDKeypointD",
    "--init=nothing": "'nothing': expected a folder, a Hub id 'user/model' or a bundled name",
    "--batch=3 --accumulate=2": "error: --batch 3: expected a multiple of 1 processes x --accumulate 2",
    "--preset=large": "error: --preset: expected tiny or paper, got 'large'",
    "--precision=half": "error: --precision: expected auto, bfloat16 or float32, got 'half'",
    "--images=1": "error: --images 1: expected at least a --batch of 2",
    "--keep=0": "error: --keep: expected at least 1, got 0",
    "--attention=some": "attention.*'some'",
    "--output=file": "error: --output file: is a file, expected a folder",
    "--output=file/below": "Not a directory",
    "--output=/proc/run": "error: /proc/run",
    "--size=0": "error: --size: expected at least 1, got 0",
    "--motion-size=0": "error: --motion-size: expected at least 1, got 0",
    "--num-keypoints=0": "error: --num-keypoints: expected at least 1, got 0",
    "--candidates=0": "error: --candidates: expected at least 1, got 0",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_options_are_one_line(flags, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    SelfSupDepthNet().save_pretrained("other")
    SelfSupDepthNet("test_resnet").save_pretrained("wide")
    shutil.copytree("other", "text")
    Path("text/model.safetensors").write_text("not tensors")
    DaGAN(**TINY | {"keypoint_input": "rgb", "attention": "none"}).save_pretrained("flat")
    RGBDKeypointDetector(block_expansion=4, max_features=16).save_pretrained("keypoints")
    Path("file").write_text("")
    before = tree(tmp_path)
    usual = [
        f"--data={data}",
        f"--depth={data.parent / 'depth'}",
        "--output=run",
        "--motion-size=16",
        "--features=none",
    ]
    line = ends(train_dagan, monkeypatch, capsys, *usual, *flags.split())
    assert re.search(BAD[flags], line), line
    assert tree(tmp_path) == before


@each_recipe
@pytest.mark.parametrize("room", [500, 20_000])
def test_a_full_disk_is_one_line_and_can_be_gone_on_with(recipe, room, data, tmp_path, monkeypatch, capfd):
    """A limit on the size of files fails like a full disk, in the middle of writing."""

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        monkeypatch.setattr(options, "parse", lambda *_: None)
        options.run_recipe(lambda _: train(recipe, data, tmp_path, checkpoint_every=2), recipe.Options, "")

    assert in_processes(1, work) == [2]
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    print(lines)
    assert len(lines) == 1 and str(tmp_path) in lines[0]
    assert not list(tmp_path.rglob("*.part"))
    train(recipe, data, tmp_path, checkpoint_every=2)
    assert json.loads((tmp_path / "stats.jsonl").read_text().splitlines()[-1])["images"] == 4
