"""Scripts of FOMM and TPSMM with the lines that docs/retrofit.md adds: train, go on with depth, resume, reconstruct.

    python examples/benchmarks/measure_scripts.py fomm|tpsmm CHECKOUT

A copy of CHECKOUT is changed as in the page's diff, and run on a CPU with small networks, random images and a random
perceptual network, without one for FOMM. Prints epoch and number of parameters with optimizer state of each checkpoint.
"""

import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs/retrofit.md"
DETECTOR = {"temperature": 0.1, "block_expansion": 8, "max_features": 16, "scale_factor": 0.25, "num_blocks": 2}
MOTION = {"block_expansion": 8, "max_features": 16, "num_blocks": 2, "scale_factor": 0.25}
TRAIN = {"num_repeats": 2, "epoch_milestones": [9], "lr_generator": 2.0e-4, "batch_size": 2, "scales": [1]}
TRAIN |= {"checkpoint_freq": 50, "transform_params": {"sigma_affine": 0.05, "sigma_tps": 0.005, "points_tps": 5}}
LOSSES = {"perceptual": [0, 0, 0, 0, 0], "equivariance_value": 10}
ANIMATE = {
    "normalization_params": {
        "adapt_movement_scale": False,
        "use_relative_movement": True,
        "use_relative_jacobian": True,
    }
}
OUTPUT = {"num_videos": 1, "format": ".gif"}


def config(family: str, folder: Path, epochs: int) -> dict[str, Any]:
    data = {"root_dir": str(folder / "data"), "frame_shape": [64, 64, 3], "id_sampling": False}
    common = {"dataset_params": {**data, "augmentation_params": {"flip_param": {"horizontal_flip": True}}}}
    common |= {"visualizer_params": {"kp_size": 2, "draw_border": True, "colormap": "gist_rainbow"}}
    common |= {"reconstruction_params": OUTPUT, "animate_params": {**ANIMATE, "num_pairs": 1, "format": ".gif"}}
    generator = {"block_expansion": 8, "max_features": 32, "num_down_blocks": 2}
    if family == "fomm":
        judge = {"scales": [1], "block_expansion": 8, "max_features": 16, "num_blocks": 2}
        generator |= {"num_bottleneck_blocks": 1, "estimate_occlusion_map": True, "dense_motion_params": MOTION}
        params = {"kp_detector_params": DETECTOR, "generator_params": generator, "discriminator_params": judge}
        params["common_params"] = {"num_kp": 3, "num_channels": 3, "estimate_jacobian": True}
        rates = {"lr_discriminator": 2.0e-4, "lr_kp_detector": 2.0e-4}
        losses = {"generator_gan": 1, "discriminator_gan": 1, "feature_matching": [10, 10, 10, 10]}
        losses |= {"equivariance_jacobian": 10}
    else:
        params = {"common_params": {"num_tps": 3, "num_channels": 3, "bg": True, "multi_mask": True}}
        params |= {"generator_params": {**generator, "num_down_blocks": 3}, "dense_motion_params": MOTION}
        rates = {"dataloader_workers": 0, "dropout_epoch": 35, "dropout_maxp": 0.3, "dropout_startp": 0.1}
        rates |= {"dropout_inc_epoch": 10, "bg_start": 10}
        losses = {"warp_loss": 10, "bg": 10, "perceptual": [10, 10, 10, 10, 10]}  # its only loss of the prediction
    train = {**TRAIN, **rates, "num_epochs": epochs, "loss_weights": {**LOSSES, **losses}}
    return common | {"model_params": params, "train_params": train}


def patch(script: Path, family: str, upgrade: tuple[Path, Path] | None) -> None:
    """Add the lines of the page's diffs behind the line that stands before them."""
    blocks = [b for b in re.findall(r"```diff\n(.*?)```", PAGE.read_text(), re.S) if f"integrations.{family}" in b]
    if family == "fomm":
        blocks += [b for b in re.findall(r"```diff\n(.*?)```", PAGE.read_text(), re.S) if "upgrade" in b][:1]
    text = script.read_text()
    for block in blocks:
        anchor = None
        for line in block.splitlines():
            if not line.startswith("+"):
                anchor = line.strip() if line.strip() != "..." else None
            elif not re.search("upgrade|shared=|kp_detector=kp_detector", line) or upgrade:
                if anchor is None:
                    text = f"{line[1:]}\n{text}"
                else:
                    found = re.search(rf"^.*{re.escape(anchor)}.*$", text, re.M)
                    assert found, f"{script} has no line {anchor}"
                    text = f"{text[: found.end()]}\n{line[1:]}{text[found.end() :]}"
                    anchor = line[1:].strip()
    for name, path in zip(("00000099-checkpoint.pth.tar", "with-depth.pth.tar"), upgrade or (), strict=False):
        text = text.replace(name, str(path))
    script.write_text(text)


def run(family: str, folder: Path, epochs: int, mode: str, checkpoint: Path | None = None) -> Path | None:
    """Run the script; the newest checkpoint that it wrote."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config(family, folder, epochs)))
    before = set(folder.rglob("*checkpoint.pth.tar"))
    command = [sys.executable, __file__, "--inside", "--config", str(folder / "tiny.yaml"), "--mode", mode]
    command += ["--log_dir", str(folder / "log")] + (["--checkpoint", str(checkpoint)] if checkpoint else [])
    done = subprocess.run(command, cwd=folder / "code", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return max(set(folder.rglob("*checkpoint.pth.tar")) - before, default=None, key=lambda path: path.stat().st_mtime)


def report(what: str, path: Path | None) -> None:
    assert path, f"{what}: wrote no checkpoint"
    content = torch.load(path, weights_only=True)
    states = {key: len(value["state"]) for key, value in content.items() if key.startswith("optimizer")}
    print(f"{what}: epoch {content['epoch']}, parameters with optimizer state {states}", flush=True)


def main(family: str, checkout: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(checkout, folder / "code", ignore=shutil.ignore_patterns("*.gif", "*.mp4", ".git"))
        for split in ("train", "test"):
            for video in range(2):
                path = folder / "data" / split / f"{video}"
                path.mkdir(parents=True)
                for i in range(3):
                    pixels = np.random.default_rng(i + 3 * video).integers(0, 255, (64, 64, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(path / f"{i}.png")
        script = folder / "code/run.py"
        bare, original = run(family, folder, 1, "train"), script.read_text()
        report("trained without depth", bare)
        new = folder / "log" / "with-depth.pth.tar"
        patch(script, family, (bare, new) if bare else None)
        run(family, folder, 0, "train")
        report("upgraded", new)
        script.write_text(original)
        patch(script, family, None)
        print(f"changed lines: {len(set(script.read_text().splitlines()) - set(original.splitlines()))}")
        going = run(family, folder, 3, "train", new)
        report("gone on with depth", going)
        resumed = run(family, folder, 5, "train", going)
        report("resumed from its own", resumed)
        for what, file in (("without", bare), ("with", resumed)):
            for mode in ("reconstruction", "animate") if family == "fomm" else ("reconstruction",):
                run(family, folder, 3, mode, file)
                print(f"{mode} of weights from {what} depth: runs", flush=True)


def inside() -> None:
    """Run the script in this folder, whose packages have become newer than it."""
    import skimage.draw
    from upstream import prepare

    disk, load = skimage.draw.disk, yaml.load
    prepare(Path.cwd())

    def circle(*args: Any, shape: Any = None) -> Any:
        return disk(args[0], args[1], shape=shape) if len(args) == 2 else disk(args[:2], args[2], shape=shape)

    skimage.draw.circle = skimage.draw.disk = circle
    yaml.load = lambda stream, Loader=yaml.SafeLoader: load(stream, Loader)
    sys.argv = ["run.py", *sys.argv[2:]]
    runpy.run_path("run.py", run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        inside()
    else:
        main(sys.argv[1], Path(sys.argv[2]).resolve())
