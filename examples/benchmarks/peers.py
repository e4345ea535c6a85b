"""Networks of other projects that a user might choose instead, built from a checkout of their code; for `benchmark.py`.

Their weights are random, which does not change their speed. What depends on the source alone is computed beforehand
where their own inference does so: LivePortrait's features of the source are, FOMM's are not.
"""

import importlib
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from measurement import seconds
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from depthaware import DaGAN, optimize
from depthaware._optional import require
from depthaware.inference.optimization import best_dtype

Run = Callable[[Tensor], Any]


@contextmanager
def imports_from(folder: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Import modules from a checkout, whose names nobody else can find afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module
    except (ImportError, OSError) as error:
        raise ValueError(f"--peers: expected a checkout with its modules, got {folder} ({error})") from None
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


def _settings(path: Path) -> dict[str, Any]:
    yaml = require("yaml", pip="pyyaml")

    return yaml.safe_load(path.read_text())["model_params"]


def fomm(folder: Path, source: Tensor) -> Run:
    """Drive by the networks of the First Order Motion Model (Siarohin et al. 2019), as its demo does: 256 px out."""
    with imports_from(folder) as load:
        sizes = _settings(folder / "config" / "vox-256.yaml")
        common = sizes["common_params"]
        detector = load("modules.keypoint_detector").KPDetector(**sizes["kp_detector_params"], **common)
        generator = load("modules.generator").OcclusionAwareGenerator(**sizes["generator_params"], **common)
    _inference(detector, generator)
    kp_source = detector(source)
    return lambda image: generator(source, kp_source=kp_source, kp_driving=detector(image))["prediction"]


def live_portrait(folder: Path, source: Tensor) -> Run:
    """Drive by LivePortrait's networks (Guo et al. 2024), motion extractor, warping and decoder: 512 px out."""
    with imports_from(folder) as load:
        sizes = _settings(folder / "src" / "config" / "models.yaml")

        def part(file: str, name: str, options: str) -> nn.Module:
            return getattr(load(f"src.modules.{file}"), name)(**sizes[f"{options}_params"])

        appearance = part("appearance_feature_extractor", "AppearanceFeatureExtractor", "appearance_feature_extractor")
        motion = part("motion_extractor", "MotionExtractor", "motion_extractor")
        warping = part("warping_network", "WarpingNetwork", "warping_module")
        decoder = part("spade_generator", "SPADEDecoder", "spade_generator")
    _inference(appearance, motion, warping, decoder)
    features, kp_source = appearance(source), motion(source)["kp"].view(1, -1, 3)

    def run(image: Tensor) -> Tensor:
        kp_driving = motion(image)["kp"].view(1, -1, 3)
        return decoder(feature=warping(features, kp_source=kp_source, kp_driving=kp_driving)["out"])

    return run


def _inference(*networks: nn.Module) -> None:
    for network in networks:
        network.eval().requires_grad_(False)


PEERS = {"fomm": ("FOMM's networks", fomm), "liveportrait": ("LivePortrait's networks", live_portrait)}


def parsed(text: str) -> dict[str, Path]:
    """Names and folders of "fomm=FOLDER,liveportrait=FOLDER"."""
    found = {}
    for word in filter(None, text.split(",")):
        name, _, folder = word.partition("=")
        if name not in PEERS or not Path(folder).is_dir() or not folder:
            raise ValueError(f"--peers: expected NAME=FOLDER with one of {', '.join(PEERS)}, got {word!r}")
        found[name] = Path(folder).resolve()
    return found


def compared(peers: dict[str, Path], source: Tensor, driving: Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Time networks on the same frames, one by one and in turns; `tiny_ratio` is how many times as fast dagan-tiny is.

    Args:
        peers: folder of each, see `parsed`.
        source: (1, 3, 256, 256) in [0, 1].
        driving: (B, 3, 256, 256) in [0, 1].
        rounds: turns.
    """
    dtype = best_dtype(source.device)
    runs: dict[str, Run] = {}
    for peer, folder in peers.items():
        name, build = PEERS[peer]
        runs[f"{name}, float32"] = network = build(folder, source)
        if dtype != torch.float32:
            runs[f"{name}, bfloat16 (autocast)"] = torch.autocast(source.device.type, dtype)(network)
    model = DaGAN.from_pretrained("dagan-tiny")
    for kind in dict.fromkeys((torch.float32, dtype)):
        fast = optimize(model, dtype=kind)
        encoded = fast.encode_source(source)
        runs[f"dagan-tiny, {str(kind).removeprefix('torch.')}"] = lambda image, fast=fast, encoded=encoded: fast.drive(
            encoded, fast.detect_keypoints(image)
        )
    table: dict[str, dict[str, float]] = {}
    for name, run in runs.items():
        with FlopCounterMode(display=False) as counter:  # warms up, too
            run(driving[:1])
        table[name] = {"gigaflop": counter.get_total_flops() / 1e9}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            whole = seconds(lambda run=run: [run(image) for image in driving.split(1)], source.device.type)
            times[name].append(whole / len(driving))
    for name, row in table.items():
        duration = statistics.median(times[name])
        own = times["dagan-tiny, " + ("bfloat16" if "bfloat16" in name else "float32")]
        row["milliseconds"] = 1e3 * duration
        row["per_core"] = 1 / duration / torch.get_num_threads()
        row["rate"] = row["gigaflop"] / duration
        row["tiny_ratio"] = statistics.median(a / b for a, b in zip(times[name], own, strict=True))
    return table
