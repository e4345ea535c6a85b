"""Does depth help a trained FOMM? Fine-tuning with depth, with a constant map in its place, and without either.

    python measure_retrofit_control.py --data FOLDER --output runs/control
    python measure_retrofit_control.py --table runs/control/control.json

A small FOMM is trained once, and then fine-tuned in three ways which, with one seed, see the same pairs in the same
order and start from the same weights. All is measured on persons of the train split that were held out. The same
command resumes what was interrupted; once the FOMM is there, processes with other --seeds may run side by side.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from depthaware import DaGAN, SelfSupDepthNet, extractors
from depthaware.data.pairs import Clips, FramePairs
from depthaware.evaluation.ablation import Row, difference
from depthaware.evaluation.machine import describe_machine
from depthaware.losses import equivariance_loss
from depthaware.media.atomic import whole_file
from depthaware.media.resume import check_same_options
from depthaware.metrics import akd, l1
from depthaware.retrofit.fomm import FOMMGenerator, FOMMKeypointDetector, keypoints, merge, retrofit
from depthaware.training.ema import EMA
from depthaware.training.optimizer import warmup_cosine
from depthaware.training.options import option, run_recipe
from depthaware.training.run import Run
from depthaware.training.run_options import HOW_TO_GET_CLIPS, RunOptions, check, check_ranges
from depthaware.training.stage2 import new_model, pyramid_error, random_transform
from depthaware.warp import resize

BASE = Row("before", "before", 10, 0.0, "rgb", "none")
ALONE = Row("without depth", "before", 10, 0.0, "rgb", "none")
FLAT = Row("constant map", "without depth", 10, 0.0, "rgbd", "cross")
DEPTH = Row("depth", "without depth", 10, 0.0, "rgbd", "cross")
COMPARED = (ALONE, DEPTH, DEPTH._replace(against="constant map"), FLAT)
DIGITS = {"l1": 5, "akd": 3}


@dataclass(frozen=True)
class Options:
    """Options that all runs have in common; durations are in images."""

    data: str | None = option(None, "folder of clips cropped around a head, of several persons (required to train)")
    output: str = option("runs/control", "folder of results and weights; given again, missing runs are added")
    depth: str = option("dagan-tiny", "weights whose depth network is used: a folder, a bundled name, or a Hub id")
    depth_size: int = option(128, "side to which images are enlarged for the depth network")
    seeds: str = option("0,1,2", "seeds of the fine-tuning, separated by commas")
    size: int = option(64, "side of the images, in pixels")
    width: int = option(12, "channels of the first block of each network")
    blend: bool = option(True, "blend decoded and warped image, as dagan-tiny does and FOMM does not: quicker to learn")
    base_images: int = option(6_000, "images that train the FOMM; the weights with the lowest held-out L1 are kept")
    images: int = option(2_000, "images of each fine-tuning")
    batch: int = option(8, "images of one optimizer step")
    learning_rate: float = option(1e-3, "highest learning rate of the FOMM's training")
    fine_rate: float = option(1e-4, "of its weights in the fine-tuning")
    new_rate: float = option(2e-3, "of the additions")
    candidates: int = option(2, "driving frames drawn, of which the one that differs most from the source is taken")
    every: int = option(4, "every n-th frame of a clip is used")
    fold: int = option(4, "every n-th person is held out, a quarter of them to choose with, the others to measure with")
    frames: int = option(6, "driving frames of each held-out clip")
    threads: int = option(1, "CPU threads")
    dry_run: bool = option(False, "check everything, take one step of a fine-tuning, and write nothing")
    table: str | None = option(None, "train nothing, but print the tables of this control.json")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """Options of one training; the others are in OUTPUT/options.json."""

    row: str
    learning_rate: float
    new_rate: float


def main(options: Options) -> None:
    if options.table is not None:
        return show(options.table)
    seeds = check_options(options)
    if options.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            train(options, DEPTH, 0, new_fomm(options), split(options, Path(folder)))
        return print(f"dry run: one step of {options.batch} images went well; nothing was written")
    landmarks = extractors.load("landmarks", "dlib-mean")
    parts = split(options, Path(options.output, f"frames{options.size}"))
    check_earlier(options)
    for row, seed in [(BASE, 0)] + [(row, seed) for seed in seeds for row in (ALONE, FLAT, DEPTH)]:
        path = folder_of(options, row, seed) / "result.json"
        if not path.exists():
            network = train(options, row, seed, new_fomm(options) if row is BASE else load_fomm(options), parts)
            if row is BASE:
                network = Reconstruction(load_fomm(options), BASE, options)
            run = {"row": row.name, "seed": seed, "gates": gates(network), "curve": curve(path.parent)}
            write(path, run | {"scores": measure(network, parts[2], options.frames, landmarks)})
    write(Path(options.output, "control.json"), found := collect(options, parts[2], landmarks))
    print(table(found))


def show(path: str) -> None:
    """Print the tables of earlier results."""
    try:
        print(table(json.loads(Path(path).read_text())))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--table {path}: expected a control.json of this script, found other content") from error


# Checks, before anything is made.


def check_options(options: Options) -> list[int]:
    """Check the options; returns the seeds."""
    check_ranges(options)
    for name, least in {"width": 1, "fold": 2, "frames": 1}.items():
        if getattr(options, name) < least:
            raise ValueError(f"--{name.replace('_', '-')}: expected at least {least}, got {getattr(options, name)}")
    if options.size % 64:
        raise ValueError(f"--size: expected a multiple of 64, got {options.size}")
    seeds = options.seeds.split(",")
    if not all(seed.isdecimal() for seed in seeds):
        raise ValueError(f"--seeds: expected whole numbers from 0 on, separated by commas, got {options.seeds!r}")
    if not options.data:
        raise ValueError(f"--data: expected a folder of clips, got none; {HOW_TO_GET_CLIPS}")
    for row in (BASE, DEPTH):
        check(train_options(options, row, 0))
    SelfSupDepthNet.from_pretrained(options.depth)
    return list(dict.fromkeys(map(int, seeds)))


def check_earlier(options: Options) -> None:
    """Write options.json, or refuse to go on with options that change results."""
    ours, path = asdict(options), Path(options.output, "options.json")
    for name in ("data", "output", "seeds", "threads", "dry_run", "table"):
        del ours[name]
    if path.is_file():
        return check_same_options(str(path), json.loads(path.read_text()), ours, flags=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, ours)


# Clips.


class DecodedClips(Clips):
    """Clips of some persons, each decoded when it is first read, into a file that all processes share."""

    def __init__(self, options: Options, folder: Path, persons: list[str]) -> None:
        super().__init__(options.data or "", options.size, cache_gb=0)
        self.by_identity = {person: self.by_identity[person] for person in persons}
        self.names = sorted(name for names in self.by_identity.values() for name in names)
        self.folder, self.every = folder, options.every
        self.decoded: dict[str, np.ndarray] = {}

    def length(self, name: str) -> int:
        return len(self._frames(name))

    def read(self, name: str, indices: Any) -> np.ndarray:
        return np.array(self._frames(name)[list(indices)])

    def _frames(self, name: str) -> np.ndarray:
        if name not in self.decoded:
            path = self.folder / f"{name}.npy"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                whole = Clips(self.data, self.size, cache_gb=0)
                frames = whole.read(name, range(0, whole.length(name), self.every))
                with whole_file(path) as part, open(part, "wb") as file:
                    np.save(file, frames)
            self.decoded[name] = np.load(path, mmap_mode="r")
        return self.decoded[name]


def split(options: Options, folder: Path) -> list[DecodedClips]:
    """Clips to train on, to choose with, and to measure with, of different persons."""
    persons = list(Clips(options.data or "", options.size, cache_gb=0).by_identity)
    held_out = persons[:: options.fold]
    parts = [sorted(set(persons) - set(held_out)), held_out[::4], sorted(set(held_out) - set(held_out[::4]))]
    if not all(parts):
        raise ValueError(f"--data {options.data}: expected more persons than --fold {options.fold}, got {len(persons)}")
    return [DecodedClips(options, folder, part) for part in parts]


# Networks.


class EnlargedDepth(nn.Module):
    """Disparity of images enlarged to a side nearer to the depth network's training; computed once for both halves."""

    def __init__(self, name: str, side: int) -> None:
        super().__init__()
        self.trained, self.side = SelfSupDepthNet.from_pretrained(name), side
        self.latest: tuple[Tensor | None, Tensor | None] = None, None

    def forward(self, image: Tensor) -> Tensor:
        if image is not self.latest[0]:
            large = resize(image, (self.side, self.side), align_corners=True)
            self.latest = image, self.trained(large, num_scales=1)[0]
        return self.latest[1]


class ConstantDepth(nn.Module):
    """The same disparity everywhere."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.full_like(image[:, :1], 0.5)


class Reconstruction(nn.Module):
    """FOMM's two networks, retrofitted as a row says, in one module; one seed gives one start in all rows."""

    def __init__(self, fomm: DaGAN, row: Row, options: Options, seed: int = 0) -> None:
        super().__init__()
        detector = FOMMKeypointDetector(fomm.kp_detector)
        generator = FOMMGenerator(fomm.dense_motion, fomm.generator, fomm.config)
        depth_net = EnlargedDepth(options.depth, options.depth_size) if row is DEPTH else ConstantDepth()
        added = row in (FLAT, DEPTH)
        torch.manual_seed(seed)  # here, since the depth network drew random numbers too
        self.kp_detector, self.generator = retrofit(detector, generator, depth_net, fdn=added, cam=added)

    def forward(self, source: Tensor, driving: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The generator's results, and the key points of the driving frame."""
        kp_driving = self.kp_detector(driving)
        return self.generator(source, kp_driving=kp_driving, kp_source=self.kp_detector(source)), kp_driving


def new_fomm(options: Options) -> DaGAN:
    """A small FOMM with random weights, as a `DaGAN` without depth."""
    torch.manual_seed(0)
    widths = {f"{part}_block_expansion": options.width for part in ("detector", "motion", "generator")}
    kind: Any = {"num_keypoints": 10, "keypoint_input": "rgb", "attention": "none", "blend": options.blend}
    return new_model("mini", size=options.size, motion_size=options.size // 4, **kind, **widths)


def load_fomm(options: Options) -> DaGAN:
    return DaGAN.from_pretrained(folder_of(options, BASE, 0) / "weights")


def gates(network: Reconstruction) -> dict[str, float | None]:
    """The attention's gate, and the largest weight of each depth channel."""
    sites = [site for half in network.children() for site in half.status().sites]
    return {site.path: site.gate for site in sites}


# Training.


def folder_of(options: Options, row: Row, seed: int) -> Path:
    return Path(options.output, f"{row.name.replace(' ', '-')}-{seed}")


def train_options(options: Options, row: Row, seed: int) -> TrainOptions:
    """Options of one training, the same for all that is fine-tuned."""
    tuned = options.images, options.fine_rate
    images, rate = (options.base_images, options.learning_rate) if row is BASE else tuned
    values = asdict(options) | {"output": str(folder_of(options, row, seed)), "row": row.name, "seed": seed}
    values |= {"images": images, "learning_rate": rate, "precision": "float32", "cpu": True, "ema": 0.99, "keep": 1}
    values |= dict.fromkeys(("sample_every", "checkpoint_every"), max(1, images // (10 if row is BASE else 5)))
    return TrainOptions(**{field.name: values[field.name] for field in fields(TrainOptions) if field.name in values})


def train(options: Options, row: Row, seed: int, fomm: DaGAN, parts: list[DecodedClips]) -> Reconstruction:
    """Train or resume; returns the moving average. Of the FOMM itself, that with the lowest held-out L1 is saved."""
    run = Run(given := train_options(options, row, seed))
    network = Reconstruction(fomm, row, options, seed)
    if row is not BASE:  # the batch norms are better than those of a few clips, as in retrofit_fomm.py
        network.eval().generator.depth_encoder.train()
    network, average = run.prepare(network), EMA(network, given.ema)
    groups = [g for half in network.children() for g in half.parameter_groups(given.learning_rate, given.new_rate)]
    optimizer = torch.optim.Adam([group | {"scale": group["lr"]} for group in groups], betas=(0.5, 0.999))
    states = {"network": network, "average": average.network, "optimizer": optimizer}
    pairs = FramePairs(parts[0], seed=seed, candidates=options.candidates)
    for images, (part,) in run.batches(pairs, run.resume(states, parts[0].names)):
        run.backward(losses(network, *part.frames, seed, images), images)
        run.step(network, optimizer, warmup_cosine(1.0, images, given.images, warmup=50 * given.batch), images)
        average.update(network, images // given.batch)
        if run.due(given.sample_every, images):
            run.log(images, {"l1": held_out_l1(average.network, parts[1], options.frames)})
            if row is BASE and min(curve(run.folder.path), key=lambda point: point[1])[0] == images:
                model = merge(*average.network.children(), image_size=options.size)
                model.save_pretrained(run.folder.path / "weights")
            run.checkpoint(images)
    return average.network


def losses(network: Reconstruction, source: Tensor, driving: Tensor, seed: int, images: int) -> dict[str, Tensor]:
    """FOMM's, with pyramids of SSIM and L1 in place of VGG-19, the second of the source under the motion alone."""
    transform = random_transform(seed, images, len(driving), slice(None), driving.device)
    out, kp = network(source, driving)
    moved = network.kp_detector(transform.warp_image(driving))
    equivariance = equivariance_loss(keypoints(kp), keypoints(moved), transform)
    return {
        "pyramid": 100 * pyramid_error(out["prediction"], driving),
        "deformed": 50 * pyramid_error(out["deformed"], driving),
        "equivariance": 10 * (equivariance.value + equivariance.jacobian),
    }


def curve(folder: Path) -> list[tuple[int, float]]:
    """Images seen and held-out L1, all through a training."""
    lines = map(json.loads, (folder / "stats.jsonl").read_text().splitlines())
    return [(line["images"], line["l1"]) for line in lines]


# Measurement: the first frame of each clip, driven by others.


def held_out_pairs(clips: DecodedClips, frames: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Person, source and driving frames (n, 3, S, S) of each clip."""
    for person, names in clips.by_identity.items():
        for name in names:
            chosen = np.unique(np.linspace(0, clips.expect(name, 2) - 1, frames + 1).astype(int))
            images = torch.from_numpy(clips.read(name, chosen)).permute(0, 3, 1, 2) / 255
            yield person, images[:1].expand_as(images[1:]), images[1:]


@torch.no_grad()
def held_out_l1(network: nn.Module, clips: DecodedClips, frames: int) -> float:
    """Mean over persons."""
    errors: dict[str, list[float]] = {}
    for person, source, driving in held_out_pairs(clips, frames):
        errors.setdefault(person, []).extend(l1(network(source, driving)[0]["prediction"], driving).tolist())
    return float(np.mean([np.mean(values) for values in errors.values()]))


@torch.no_grad()
def measure(network: nn.Module | None, clips: DecodedClips, frames: int, landmarks: Any) -> dict[str, list[float]]:
    """L1, and AKD in pixels of 256, of each frame; of copies of the source if the network is None."""
    scores: dict[str, list[float]] = {"l1": [], "akd": []}
    for _, source, driving in held_out_pairs(clips, frames):
        prediction = source if network is None else network(source, driving)[0]["prediction"]
        points = [landmarks(resize(images, (256, 256), align_corners=True)) for images in (prediction, driving)]
        scores["l1"] += l1(prediction, driving).tolist()
        scores["akd"] += akd(*points).tolist()
    return {name: [round(value, 6) for value in values] for name, values in scores.items()}


def collect(options: Options, clips: DecodedClips, landmarks: Any) -> dict[str, Any]:
    """All results so far, in the form of `depthaware.evaluation.ablation`, with frames in place of its clips."""
    persons = [person for person, source, _ in held_out_pairs(clips, options.frames) for _ in source]
    runs = [json.loads(path.read_text()) for path in sorted(Path(options.output).glob("*/result.json"))]
    before = json.loads(Path(options.output, "options.json").read_text())
    machine = describe_machine("cpu", Path(__file__).parent)
    copy = measure(None, clips, options.frames, landmarks)
    return {"options": before, "machine": machine, "persons": persons, "copy": copy, "runs": runs}


def table(found: dict[str, Any]) -> str:
    """Markdown: conditions, means over persons of each row, and differences with bootstrap intervals over persons."""
    options, runs, machine = found["options"], found["runs"], found["machine"]
    seeds = sorted({run["seed"] for run in runs if run["row"] != BASE.name})
    persons = {metric: len(person_means(found, found["copy"], metric)) for metric in DIGITS}
    lines = [
        f"FOMM of {options['size']} px trained on {options['base_images']} images; {options['images']} images of "
        f"fine-tuning, {len(seeds)} seeds; {len(found['persons'])} frames of {persons['l1']} persons, AKD of "
        f"{persons['akd']}. Means over persons ± standard deviation over seeds. {machine['processor']}, torch "
        f"{machine['torch']}.\n",
        "| | gate of attention | depth channels | L1 ↓ | AKD ↓ |\n|---|---:|---:|---:|---:|",
    ]
    for name in ("copying the source", BASE.name, ALONE.name, FLAT.name, DEPTH.name):
        chosen = [run for run in runs if run["row"] == name] or [{"scores": found["copy"], "gates": {}}]
        gates = np.array([list(run["gates"].values()) for run in chosen])
        cells = [f"{gates[:, -1].mean():.3f}", f"{gates[:, :-1].max(1).mean():.3f}"] if gates.size else ["", ""]
        for metric, digits in DIGITS.items():
            means = [person_means(found, run["scores"], metric).mean() for run in chosen]
            spread = f" ± {np.std(means, ddof=1):.{digits}f}" if len(means) > 1 else ""
            cells.append(f"{np.mean(means):.{digits}f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("\n| | L1 | of each seed | AKD | of each seed |\n|---|---:|---:|---:|---:|")
    everywhere = [run | {"seed": seed} for run in runs if run["row"] == BASE.name for seed in seeds]
    paired = found | {"runs": [run for run in runs if run["row"] != BASE.name] + everywhere}
    for row in COMPARED:
        cells = []
        for metric, digits in DIGITS.items():
            mean, low, high, each = difference(paired, row, metric)
            cells.append(f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]")
            cells.append(", ".join(f"{value:+.{digits}f}" for value in each))
        lines.append(f"| {row.name} − {row.against} | {' | '.join(cells)} |")
    return "\n".join(lines)


def person_means(found: dict[str, Any], scores: dict[str, list[float]], metric: str) -> np.ndarray:
    """Mean of each person's frames, of those with a value in all runs and in copying."""
    counts = np.isfinite([found["copy"][metric], *(run["scores"][metric] for run in found["runs"])]).all(axis=0)
    values, who = np.array(scores[metric])[counts], np.array(found["persons"])[counts]
    return np.array([values[who == person].mean() for person in np.unique(who)])


def write(path: Path, content: Any) -> None:
    with whole_file(path) as part:
        part.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
