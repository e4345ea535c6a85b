"""Promises of the package as a whole."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import depthaware
from depthaware import extractors, losses, metrics

PACKAGE = Path(depthaware.__file__).parent
ROOT = PACKAGE.parent
MODELS = {"inference", "attention", "dagan", "depth", "discriminator", "generator", "keypoints", "motion", "pose"}


def test_public_names():
    """Checked in, so that a name is neither lost nor made public by accident."""
    assert depthaware.__all__ == [
        "CrossModalAttention",
        "DaGAN",
        "DaGANOutput",
        "DenseMotion",
        "DenseMotionNetwork",
        "DepthAwareGenerator",
        "FeatureEncoder",
        "Keypoints",
        "MultiScaleDiscriminator",
        "Pose",
        "PoseNet",
        "RGBDKeypointDetector",
        "SelfSupDepthNet",
        "SourceEncoding",
        "animate",
        "list_models",
        "optimize",
        "read_image",
        "read_video",
        "show",
        "transfer_motion",
    ]
    assert set(depthaware.__all__) <= set(dir(depthaware))
    assert all(hasattr(depthaware, name) for name in depthaware.__all__)
    for package in (extractors, losses, metrics):
        assert all(hasattr(package, name) for name in package.__all__)


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_costs_nothing_that_is_not_used():
    assert not {"torch", "av"} & modules_after("import depthaware")
    loaded = modules_after("from depthaware import CrossModalAttention, DaGAN; import depthaware.losses")
    assert "torch" in loaded
    assert not {"av", "accelerate", "torchmetrics", "gradio", "matplotlib"} & loaded


def test_the_top_level_is_the_paper():
    paper = {
        "geometry",
        "warp",
        "blocks",
        "depth",
        "pose",
        "alignment",
        "keypoints",
        "motion",
        "attention",
        "generator",
    }
    assert {path.stem for path in PACKAGE.glob("*.py")} == paper | {"discriminator", "dagan", "__init__", "__main__"}


def test_every_submodule_is_an_attribute():
    files = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__main__.py"]
    names = {".".join(path.with_suffix("").parts).removesuffix("__init__").rstrip(".") for path in files} - {""}
    code = "import depthaware, operator\nfor name in {names}: operator.attrgetter(name)(depthaware)"
    modules_after(code.format(names=sorted(names)))
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = depthaware.absent
    assert depthaware.__version__ == version("depthaware")


def test_files_are_short():
    limits = {PACKAGE: 250, ROOT / "integrations": 250, ROOT / "examples": 400, ROOT / "tests": 400}
    lines = {path: len(path.read_text().splitlines()) for folder in limits for path in folder.rglob("*.py")}
    assert not {
        str(path): count
        for path, count in lines.items()
        for folder, limit in limits.items()
        if path.is_relative_to(folder) and count > limit
    }


def sources() -> dict[str, str]:
    return {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}


def users_of(pattern: str) -> set[str]:
    return {name for name, text in sources().items() if re.search(pattern, text)}


def test_one_door_for_each_thing_that_is_easily_got_wrong():
    assert users_of(r"F\.grid_sample\(") == {"warp.py"}
    assert users_of(r"torch\.load\(") == {"pretrained/checkpoint.py"}
    assert users_of(r"^\s*(import|from) timm") | users_of(r"timm\.create") == {
        "depth.py",
        "losses/perceptual.py",
    }


def test_losses_and_models_do_not_know_each_other():
    for name, text in sources().items():
        imported = set(re.findall(r"^\s*from \.+(\w+)", text, re.MULTILINE))
        if name.startswith("losses/"):
            assert not imported & MODELS, name
        elif not name.startswith("training/"):
            assert "losses" not in imported, name


def test_no_file_names_the_machine_it_was_written_on():
    root = PACKAGE.parent
    folders = [PACKAGE, *(root / name for name in ("integrations", "examples", "tests", "docs"))]
    texts = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".md", ".json", ".yml"}]
    machine = re.compile(r"(?<![\w.<])/(?:" + "home|root|work|Users" + r")/\w")
    assert [str(path) for path in texts if machine.search(path.read_text(encoding="utf-8"))] == []
