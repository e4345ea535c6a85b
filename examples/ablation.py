"""The paper's Table 4 in miniature: its nine rows trained under one equal budget, and what depth and attention gain.

    python examples/ablation.py --data FOLDER --output runs/ablation

With one seed all rows see the same pairs in the same order, and all rows of one seed come before the next seed, so that
OUTPUT/ablation.json and OUTPUT/ablation.md are fair at any time. Run again, also with other --rows and --seeds, it adds
what is not there yet; a row that was interrupted is trained from its start.
"""

import csv
import json
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import train_dagan
import train_depth
from ablation_table import Row, table

from depthaware import DaGAN, extractors
from depthaware.data.prepare.clip_files import write_clip
from depthaware.data.prepare.face_crops import central_square
from depthaware.evaluation import METRICS, ClipReader, Pair, Scorer, evaluate, list_clips, same_identity
from depthaware.inference.optimization import best_dtype
from depthaware.media.atomic import whole_file
from depthaware.media.video import read_video
from depthaware.training.options import run
from depthaware.training.run_options import check

ROWS = (
    Row("Baseline", "Baseline", 15, 10.0, "rgb", "none"),
    Row("w/ FDN", "Baseline", 15, 10.0, "rgbd", "none"),
    Row("w/ CAM", "Baseline", 15, 10.0, "rgb", "cross"),
    Row("Ours (SA)", "Baseline", 15, 10.0, "rgbd", "self"),
    Row("DaGAN", "Baseline", 15, 10.0, "rgbd", "cross"),
    Row("FOMM", "FOMM", 10, 0.0, "rgb", "none"),
    Row("FOMM w/ FDN", "FOMM", 10, 0.0, "rgbd", "none"),
    Row("FOMM w/ CAM", "FOMM", 10, 0.0, "rgb", "cross"),
    Row("FOMM w/ FDN+CAM", "FOMM", 10, 0.0, "rgbd", "cross"),
)


@dataclass(frozen=True)
class Options:
    """What all rows have in common."""

    data: str = "../shared/faces"
    output: str = "runs/ablation"
    depth: str = ""  # folder of stage 1; "": train one into OUTPUT/depth
    rows: str = "all"  # or some of their names, separated by commas
    seeds: str = "0,1,2"
    network: str = "mini"
    size: int = 64
    motion_size: int = 16
    images: int = 2_000  # of each run
    depth_images: int = 4_000
    batch: int = 8
    learning_rate: float = 1e-3
    candidates: int = 2
    pyramid: float = 100.0  # with the next one all there is of image losses: no VGG-19, no discriminator
    deformed: float = 50.0
    precision: str = "auto"  # bfloat16 where the device computes in it natively
    hold_out: int = 8  # persons of the train split that the budget was sized on
    every: int = 20  # frames of the test clips: every n-th
    metrics: str = "ssim,psnr,l1,akd"
    threads: int = 1
    cpu: bool = False  # also where there is a GPU


class Outcome(NamedTuple):
    """One row with one seed.

    Attributes:
        row: its name.
        seed: of the weights at the start, the pairs and the transformations.
        parameters: trained ones.
        seconds: of training.
        gate: of the attention, which starts at 0; None without attention.
        found: share of the frames that have a value in every metric: where no face is found there is no AKD.
        scores: of each metric one for each test clip, the mean over its frames.
    """

    row: str
    seed: int
    parameters: int
    seconds: float
    gate: float | None
    found: float
    scores: dict[str, list[float]]


def main(options: Options) -> None:
    rows, seeds, scorer = chosen(options), listed(options), measures(options)
    check_training(options, rows)
    found = begun(options)
    done = {(run["row"], run["seed"]) for run in found["runs"]}
    todo = [(row, seed) for seed in seeds for row in rows if (row.name, seed) not in done]
    small_clips(options)
    if todo:
        add(found, todo, options, Test(options, scorer))
    print(table(found))


def add(found: dict[str, Any], todo: list[tuple[Row, int]], options: Options, test: "Test") -> None:
    """Train and measure these rows and seeds, and write all that was found after each."""
    found["machine"] = together(found.get("machine", {}), machine(options))
    found |= {"persons": test.persons, "pairs": len(test.pairs)}
    train_stage_1(options)
    for row, seed in todo:
        print(f"{row.name}, seed {seed}", flush=True)
        train_dagan.main(recipe := row_options(options, row, seed))
        found["runs"].append(test.outcome(row, seed, Path(recipe.output))._asdict())
        names = {run["row"] for run in found["runs"]}
        found |= {"rows": [row._asdict() for row in ROWS if row.name in names], "copy": test.copied}
        write(Path(options.output, "ablation.json"), json.dumps(found) + "\n")
        write(Path(options.output, "ablation.md"), table(found) + "\n")


def chosen(options: Options) -> list[Row]:
    names = [row.name for row in ROWS] if options.rows == "all" else options.rows.split(",")
    unknown = [name for name in names if name not in {row.name for row in ROWS}]
    if unknown:
        raise ValueError(f"--rows: expected all or some of {', '.join(row.name for row in ROWS)}, got {unknown[0]!r}")
    return [row for row in ROWS if row.name in names]


def listed(options: Options) -> list[int]:
    seeds = options.seeds.split(",")
    if not all(seed.isdecimal() for seed in seeds):
        raise ValueError(f"--seeds: expected whole numbers from 0 on, separated by commas, got {options.seeds!r}")
    return list(dict.fromkeys(map(int, seeds)))


def measures(options: Options) -> Scorer:
    """The metrics, tried on a picture: what they lack shows now, not after the training."""
    names = options.metrics.split(",")
    unknown = [name for name in names if name not in METRICS]
    if unknown or "l1" not in names:
        wrong = repr(unknown[0]) if unknown else f"no l1 in {options.metrics!r}"
        raise ValueError(f"--metrics: expected l1 and any of {', '.join(METRICS)}, got {wrong}")
    kinds = {kind for name in names if (kind := METRICS[name].kind)}
    scorer = Scorer(names, extractors={kind: extractors.load(kind) for kind in kinds})
    picture = scorer.look(torch.zeros(1, 3, options.size, options.size))
    scorer.score(picture, picture, picture, truth=True, sequence=False)
    return scorer


def check_training(options: Options, rows: Sequence[Row]) -> None:
    for recipe in (row_options(options, row, 0) for row in rows):
        check(recipe)
        train_dagan.resolve(recipe)
    if options.depth and not Path(options.depth, "depth.safetensors").is_file():
        raise ValueError(f"--depth {options.depth}: expected a folder of train_depth.py, found no depth.safetensors")


def begun(options: Options) -> dict[str, Any]:
    """What OUTPUT/ablation.json has already; its runs are kept.

    Raises:
        ValueError: if they were made with options that would make others.
    """
    ours = {name: value for name, value in asdict(options).items() if name not in ("data", "output", "rows", "seeds")}
    path = Path(options.output, "ablation.json")
    if not path.is_file():
        return {"options": ours, "runs": []}
    found = json.loads(path.read_text())
    for name, value in ours.items():
        if found["options"].get(name) != value:
            raise ValueError(
                f"{path}: is of runs with --{name.replace('_', '-')} {found['options'].get(name)!r}, got {value!r}; "
                "go on with those options, or choose another --output"
            )
    return found


def clips_folder(options: Options) -> Path:
    return Path(options.output, f"clips{options.size}")


def small_clips(options: Options) -> None:
    """All clips at the size of the model: decoding large ones would take a good part of every run's time."""
    if not Path(options.data, "manifest.csv").is_file():
        raise ValueError(
            f"--data {options.data}: expected a manifest.csv that says who is train and who test, found none"
        )
    splits = ("train", "test")
    clips = [[name, "clip", split, person] for split in splits for name, person in list_clips(options.data, split)]
    folder = clips_folder(options)
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        with open(manifest, newline="") as file:
            if list(csv.reader(file))[1:] != clips:
                raise ValueError(f"{manifest}: has other clips than --data {options.data}; choose another --output")
        return
    footage = ClipReader(options.data, options.size)
    for name, _, split, _ in clips:
        path = folder / split / "clips" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            video = read_video(footage.find(name))
            write_clip(path, video, central_square(video.size), size=options.size, rate=video.rate, fps=0)
    with whole_file(manifest) as part, open(part, "w", newline="") as file:
        csv.writer(file).writerows([["name", "kind", "split", "identity"], *clips])


def depth_folder(options: Options) -> Path:
    return Path(options.depth or Path(options.output, "depth"))


def train_stage_1(options: Options) -> None:
    """One depth network for all rows, unless there is one."""
    if not options.depth:
        train_depth.main(
            train_depth.Options(output=str(depth_folder(options)), images=options.depth_images, **common(options))
        )


def common(options: Options) -> dict[str, Any]:
    names = ("size", "batch", "precision", "hold_out", "threads", "cpu")
    return {"data": str(clips_folder(options)), **{name: getattr(options, name) for name in names}}


def row_options(options: Options, row: Row, seed: int) -> train_dagan.Options:
    """What train_dagan.py gets. Its one checkpoint is the last, so that its seconds are those of one stretch."""
    names = ("network", "motion_size", "images", "learning_rate", "candidates", "pyramid", "deformed")
    return train_dagan.Options(
        **common(options),
        **{name: getattr(options, name) for name in names},
        **row.flags(),
        seed=seed,
        depth=str(depth_folder(options)),
        output=str(Path(options.output, f"{seed}-{re.sub(r'[^a-z]+', '-', row.name.lower()).strip('-')}")),
        features="none",
        adversarial=0.0,
        feature_matching=0.0,
        sample_every=options.images,
        checkpoint_every=options.images,
        keep=1,
    )


class Test:
    """The test split: first frames driven by later ones, as in `depthaware evaluate --protocol same-identity`."""

    def __init__(self, options: Options, scorer: Scorer) -> None:
        self.options, self.extractors = options, scorer.extractors
        self.metrics = [measure.name for measure in scorer.measures]
        clips = list_clips(clips_folder(options))
        self.footage = Kept(clips_folder(options), options.size)
        self.pairs: list[Pair] = same_identity(self.footage, clips, every=options.every).pairs
        self.names = list(dict.fromkeys(pair.driving_video for pair in self.pairs))
        identities = dict(clips)
        order = sorted(set(identities.values()))
        self.persons = [order.index(identities[name]) for name in self.names]
        self.copied: Mapping[str, list[float]] = {}

    def outcome(self, row: Row, seed: int, folder: Path) -> Outcome:
        """Scores of the weights in a run's folder."""
        model = DaGAN.from_pretrained(folder / "weights")
        if on_gpu(self.options):
            model = model.cuda()
        wanted: dict[str, Any] = {"metrics": self.metrics, "extractors": self.extractors}
        results = list(evaluate(model, self.pairs, self.footage, **wanted, strict=True))
        scores = np.array([result.scores for result in results])  # pairs, predictions, metrics
        clips = np.array([self.names.index(result.pair.driving_video) for result in results])
        means = [np.nanmean(scores[clips == i], axis=0) for i in range(len(self.names))]
        model_scores, self.copied = (
            {name: [round(float(m[who, k]), 6) for m in means] for k, name in enumerate(self.metrics)} for who in (0, 1)
        )
        attention = model.generator.attention
        return Outcome(
            row.name,
            seed,
            sum(p.numel() for name, p in model.named_parameters() if not name.startswith("depth_net.")),
            round(json.loads((folder / "stats.jsonl").read_text().splitlines()[-1])["seconds"], 1),
            None if attention is None else round(attention.gate.item(), 5),
            round(float(np.isfinite(scores[:, 0]).all(-1).mean()), 4),
            model_scores,
        )


class Kept(ClipReader):
    """Footage that keeps every frame that was asked for: all runs are measured on the same few."""

    def __init__(self, folder: Path, size: int) -> None:
        super().__init__(folder, size)
        self.seen: dict[tuple[str, int | str], torch.Tensor] = {}

    def frame(self, name: str, which: int | str) -> torch.Tensor:
        key = (name, which)
        if key not in self.seen:
            self.seen[key] = super().frame(name, which)
        return self.seen[key]


def machine(options: Options) -> dict[str, str]:
    """What was measured with what, on what."""
    git, device = ["git", "describe", "--always", "--dirty"], torch.device("cuda" if on_gpu(options) else "cpu")
    found = (
        shutil.which("git") and subprocess.run(git, capture_output=True, text=True, cwd=Path(__file__).parent).stdout
    )
    native = best_dtype(device) == torch.bfloat16
    return {
        "commit": (found or "").strip(),
        "device": torch.cuda.get_device_name() if on_gpu(options) else f"CPU, {options.threads} threads",
        "precision": options.precision if options.precision != "auto" else "bfloat16" if native else "float32",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def together(earlier: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Both machines, where the runs were made on two."""
    old = {name: earlier.get(name) or value for name, value in now.items()}
    return {name: old[name] if value in old[name] else f"{old[name]} and {value}" for name, value in now.items()}


def on_gpu(options: Options) -> bool:
    return not options.cpu and torch.cuda.is_available()


def write(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text)


if __name__ == "__main__":
    run(main, Options, __doc__)
