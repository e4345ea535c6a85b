"""The nine rows of the paper's Table 4, in small: trained under one equal budget, and what depth and attention gain.

    python ablation.py --data FOLDER --depth runs/depth64 --output runs/ablation
    python ablation.py --table runs/ablation/ablation.json --page docs/ablation.md

With one seed all rows see the same pairs in the same order, and all rows of one seed come before the next seed, so that
OUTPUT/ablation.json and OUTPUT/ablation.md are fair at any time. A further call, also with other --rows and --seeds,
adds the missing runs; a row that was interrupted is trained from its start.
"""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from depthaware import DaGAN, extractors
from depthaware.data.pairs import Clips, FramePairs
from depthaware.data.prepare.clip_files import write_clip
from depthaware.data.prepare.face_crops import central_square
from depthaware.evaluation import METRICS, ClipReader, Pair, Scorer, cross_identity, evaluate, list_clips, same_identity
from depthaware.evaluation.ablation import Row, fill_page, table
from depthaware.evaluation.clip_scores import CachedReader, ClipScores, clip_scores
from depthaware.evaluation.machine import describe_machine
from depthaware.losses import DaGANLoss
from depthaware.media.atomic import whole_file
from depthaware.media.resume import check_same_options
from depthaware.media.video import read_video
from depthaware.training.ema import EMA
from depthaware.training.optimizer import warmup_cosine
from depthaware.training.options import check_choices, option, run_recipe
from depthaware.training.precision import resolved_precision
from depthaware.training.run import Run
from depthaware.training.run_options import HOW_TO_GET_CLIPS, RunOptions, check, check_ranges
from depthaware.training.stage1 import check_depth
from depthaware.training.stage2 import (
    GeneratorStep,
    adam,
    freeze_depth,
    load_depth,
    new_model,
    random_transform,
    substitute_losses,
)

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
    """Options that all rows have in common."""

    data: str | None = option(None, "folder of clips with a manifest.csv of train and test split (required to train)")
    depth: str | None = option(None, "folder of train_depth.py, whose depth network all rows share (required to train)")
    output: str = option("runs/ablation", "folder of results and weights; given again, missing runs are added")
    rows: str = option("all", "all, or names of rows, separated by commas")
    seeds: str = option("0,1,2", "seeds, separated by commas")
    network: Literal["mini", "tiny", "paper"] = option("mini", "size of the networks")
    size: int = option(64, "side of the images, in pixels")
    motion_size: int = option(16, "side of the maps of key points and motion")
    images: int = option(2_000, "length of each run, in images")
    batch: int = option(8, "images of one optimizer step")
    learning_rate: float = option(1e-3, "highest learning rate")
    candidates: int = option(2, "driving frames drawn, of which the one that differs most from the source is taken")
    pyramid: float = option(
        100.0, "weight of SSIM and L1 at four scales, in place of perceptual and adversarial losses"
    )
    deformed: float = option(50.0, "the same for the source under the motion alone")
    precision: Literal["auto", "bfloat16", "float32"] = option(
        "auto", "compute dtype; auto is bfloat16 on devices with native support, else float32"
    )
    hold_out: int = option(8, "identities of the train split left out, on which the budget was chosen")
    every: int = option(20, "every n-th frame of a test clip is measured")
    metrics: str = option("ssim,psnr,l1,akd", "metrics, separated by commas; l1 must be among them")
    cross: str = option("csim,prmse", "Table 4's metrics, across identities: csim, prmse, aucon with py-feat, or none")
    threads: int = option(1, "CPU threads")
    cpu: bool = option(False, "train on the CPU even if there is a GPU")
    dry_run: bool = option(False, "check everything, take one step of the first row, and write nothing")
    table: str | None = option(None, "train nothing, but print the tables of this ablation.json")
    page: str | None = option(None, "with --table: write them into this page, between <!-- tables --> and <!-- end -->")


@dataclass(frozen=True, kw_only=True)
class RowOptions(RunOptions):
    """Options of the run of one row, all that defines it."""

    network: str
    size: int
    motion_size: int
    learning_rate: float
    candidates: int
    pyramid: float
    deformed: float
    num_keypoints: int
    keypoint_distance: float
    keypoint_input: str
    attention: str


class Outcome(NamedTuple):
    """Result of one row with one seed.

    Attributes:
        row: its name.
        seed: of the initial weights, the pairs and the transforms.
        parameters: number of trained ones.
        seconds: of training.
        gate: of the attention, which starts at 0; None without attention.
        found: share of the frames that have a value in every metric: where no face is found there is no AKD.
        scores: for each metric a value for each test clip, the mean over its frames; "cross_" across identities.
    """

    row: str
    seed: int
    parameters: int
    seconds: float
    gate: float | None
    found: float
    scores: dict[str, list[float]]


def main(options: Options) -> None:
    if options.table is not None:
        return show(options)
    if options.page is not None:
        raise ValueError("--page: expected --table too, got none")
    check_ranges(options)
    rows, seeds, scorers = chosen_rows(options), chosen_seeds(options), make_scorers(options)
    check_training(options)
    results = earlier_results(options)
    done = {(run["row"], run["seed"]) for run in results["runs"]}
    todo = [(row, seed) for seed in seeds for row in rows if (row.name, seed) not in done]
    if options.dry_run:
        Test(options, scorers)
        return train(options, rows[0], seeds[0])
    write_small_clips(options)
    if todo:
        add(results, todo, options, Test(options, scorers))
    print(table(results))


def show(options: Options) -> None:
    """Print the tables of earlier results, or write them into a page."""
    results = json.loads(Path(options.table).read_text())
    if options.page is None:
        return print(table(results))
    write(Path(options.page), fill_page(Path(options.page).read_text(encoding="utf-8"), results))


def add(results: dict[str, Any], todo: list[tuple[Row, int]], options: Options, test: "Test") -> None:
    """Train and measure these rows and seeds, and write all results after each."""
    results["machine"] = merge_machines(results.get("machine", {}), machine(options))
    results |= {"persons": test.persons, "pairs": len(test.pairs[0])}
    for row, seed in todo:
        print(f"{row.name}, seed {seed}", flush=True)
        train(options, row, seed)
        results["runs"].append(test.outcome(row, seed)._asdict())
        names = {run["row"] for run in results["runs"]}
        results |= {"rows": [row._asdict() for row in ROWS if row.name in names], "copy": test.copied}
        write(Path(options.output, "ablation.json"), json.dumps(results) + "\n")
        write(Path(options.output, "ablation.md"), table(results) + "\n")


# Training.


def train(options: Options, row: Row, seed: int) -> None:
    """Train one row, and write the moving average of its weights and its logs to its folder."""
    run = Run(run_options(options, row, seed))
    model = build(options, row, seed)
    ema = EMA(model, run.options.ema).to(run.device)
    network = run.prepare(GeneratorStep(model))
    optimizer = adam(network)
    clips = Clips(run.options.data, options.size, hold_out=options.hold_out, cache_gb=run.options.cache_gb)
    pairs = FramePairs(clips, seed=seed, candidates=options.candidates)
    run.check_clips(clips, 2)
    run.resume({}, clips.names)  # from the start: there are no checkpoints
    objective = DaGANLoss(keypoint_distance=run.options.keypoint_distance)
    weights = {name: getattr(run.options, name) for name in ("pyramid", "deformed")}
    for images, (part,) in run.batches(pairs, 0):
        source, driving = part.frames
        transform = random_transform(seed, images, options.batch, part.rows, run.device)
        out, kp_transformed = network(source, driving, transform.warp_image(driving))
        terms = objective(out, driving, kp_transformed, transform).present()
        metrics = run.backward(terms | substitute_losses(out, driving, **weights), images)
        rate = warmup_cosine(options.learning_rate, images, options.images, warmup=50 * options.batch)
        metrics["gradient"] = run.step(network, optimizer, rate, images)
        ema.update(model, images // options.batch)
        if run.due(run.options.log_every, images):
            run.log(images, metrics | {"occlusion": out.occlusion_map.mean().item(), "learning_rate": rate})
    if not options.dry_run:
        ema.network.save_pretrained(Path(run.options.output, "weights"), dtype=torch.float16)
    run.finish(run.folder.path / "weights", [])


def run_options(options: Options, row: Row, seed: int) -> RowOptions:
    """Options of the run of one row, the same for all rows but for the folder and the fields of `Row`."""
    output = Path(options.output, f"{seed}-{re.sub(r'[^a-z]+', '-', row.name.lower()).strip('-')}")
    values = asdict(options) | row._asdict()
    values |= {"data": str(clips_folder(options)), "output": str(output), "seed": seed}
    return RowOptions(**{field.name: values[field.name] for field in fields(RowOptions) if field.name in values})


def build(options: Options, row: Row, seed: int) -> DaGAN:
    """The network of a row, with the depth network that all rows share."""
    torch.manual_seed(seed)
    model = new_model(options.network, size=options.size, motion_size=options.motion_size, **row.model_options())
    if model.depth_net is not None:
        load_depth(model, options.depth)
    freeze_depth(model)
    return model


# Checks, before anything is made.


def chosen_rows(options: Options) -> list[Row]:
    names = [row.name for row in ROWS] if options.rows == "all" else options.rows.split(",")
    unknown = [name for name in names if name not in {row.name for row in ROWS}]
    if unknown:
        raise ValueError(f"--rows: expected all or some of {', '.join(row.name for row in ROWS)}, got {unknown[0]!r}")
    return [row for row in ROWS if row.name in names]


def chosen_seeds(options: Options) -> list[int]:
    seeds = options.seeds.split(",")
    if not all(seed.isdecimal() for seed in seeds):
        raise ValueError(f"--seeds: expected whole numbers from 0 on, separated by commas, got {options.seeds!r}")
    return list(dict.fromkeys(map(int, seeds)))


def make_scorers(options: Options) -> list[Scorer]:
    """The metrics within and across identities, tried on an image, so that a missing package shows before training."""
    within, across = options.metrics.split(","), [] if options.cross == "none" else options.cross.split(",")
    if "l1" not in within:
        raise ValueError(f"--metrics: expected l1 and any of {', '.join(METRICS)}, got no l1 in {options.metrics!r}")
    crossed = [name for name, spec in METRICS.items() if not (spec.needs_truth or spec.is_value)]
    for flag, names, known in (
        ("metrics: expected l1 and", within, METRICS),
        ("cross: expected none or", across, crossed),
    ):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"--{flag} any of {', '.join(known)}, got {unknown[0]!r}")
    scorers = []
    for names in filter(None, (within, across)):
        kinds = {kind for name in names if (kind := METRICS[name].kind)}
        scorer = Scorer(names, extractors={kind: extractors.load(kind) for kind in kinds}, csim="source")
        features = scorer.extract_features(torch.zeros(1, 3, options.size, options.size))
        scorer.score(features, features, features, truth=True, sequence=False)
        scorers.append(scorer)
    return scorers


def check_training(options: Options) -> None:
    check_choices(options)
    if not options.data:
        raise ValueError(f"--data: expected a folder of clips with a manifest.csv, got none; {HOW_TO_GET_CLIPS}")
    check(run_options(options, ROWS[0], 0))
    if not options.depth:
        raise ValueError("--depth: expected a folder of train_depth.py, got none")
    check_depth(options.depth, "--depth ")
    if not Path(options.data, "manifest.csv").is_file():
        raise ValueError(f"--data {options.data}: expected a manifest.csv of train and test split, found none")


def earlier_results(options: Options) -> dict[str, Any]:
    """Content of OUTPUT/ablation.json, to which runs are added.

    Raises:
        ValueError: if its runs were made with options that change results.
    """
    free = ("data", "output", "rows", "seeds", "dry_run", "table", "page")
    ours = {name: value for name, value in asdict(options).items() if name not in free}
    path = Path(options.output, "ablation.json")
    if not path.is_file():
        return {"options": ours, "runs": []}
    results = json.loads(path.read_text())
    check_same_options(str(path), results["options"], ours, flags=True)
    return results


# Clips.


def clips_folder(options: Options) -> Path:
    return Path(options.data) if options.dry_run else Path(options.output, f"clips{options.size}")


def write_small_clips(options: Options) -> None:
    """Write all clips at the size of the model: decoding large ones would take a good part of every run's time."""
    splits = ("train", "test")
    clips = [[name, "clip", split, person] for split in splits for name, person in list_clips(options.data, split)]
    folder = clips_folder(options)
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        with open(manifest, newline="") as file:
            if list(csv.reader(file))[1:] != clips:
                raise ValueError(f"{manifest}: has other clips than --data {options.data}; choose another --output")
        return
    reader = ClipReader(options.data, options.size)
    for name, _, split, _ in clips:
        path = folder / split / "clips" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            video = read_video(reader.find(name))
            write_clip(path, video, central_square(video.size), size=options.size, rate=video.rate, fps=0)
    with whole_file(manifest) as part, open(part, "w", newline="") as file:
        csv.writer(file).writerows([["name", "kind", "split", "identity"], *clips])


# Measurement.


class Test:
    """The test split: first frames driven by later ones, as in `depthaware evaluate --protocol same-identity`, and
    across identities, as in the paper's Table 4."""

    def __init__(self, options: Options, scorers: Sequence[Scorer]) -> None:
        self.options, self.scorers = options, scorers
        clips = list_clips(clips_folder(options))
        self.reader = CachedReader(clips_folder(options), options.size)
        same = same_identity(self.reader, clips, every=options.every).pairs
        across = cross_identity(self.reader, clips, every=options.every).pairs if len(scorers) > 1 else []
        self.pairs: list[list[Pair]] = [same, across][: len(scorers)]
        self.names = list(dict.fromkeys(pair.driving_video for pair in same))
        identities = dict(clips)
        order = sorted(set(identities.values()))
        self.persons = [order.index(identities[name]) for name in self.names]
        self.copied: Mapping[str, list[float]] = {}

    def outcome(self, row: Row, seed: int) -> Outcome:
        """Scores of the weights of one row and seed."""
        folder = Path(run_options(self.options, row, seed).output)
        model = DaGAN.from_pretrained(folder / "weights")
        if on_gpu(self.options):
            model = model.cuda()
        same, *across = (self.measure(model, *test) for test in zip(self.pairs, self.scorers, strict=True))
        crossed = [{f"cross_{name}": x for name, x in scores.items()} for found in across for scores in found[:2]]
        model_scores, self.copied = ({**ours, **more} for ours, more in zip(same[:2], crossed or ({}, {}), strict=True))
        attention = model.generator.attention
        return Outcome(
            row.name,
            seed,
            sum(p.numel() for name, p in model.named_parameters() if not name.startswith("depth_net.")),
            round(json.loads((folder / "stats.jsonl").read_text().splitlines()[-1])["seconds"], 1),
            None if attention is None else round(attention.gate.item(), 5),
            same.found,
            model_scores,
        )

    def measure(self, model: DaGAN, pairs: list[Pair], scorer: Scorer) -> ClipScores:
        metrics = [spec.name for spec in scorer.specs]
        given: dict[str, Any] = {"metrics": metrics, "extractors": scorer.extractors, "csim": "source"}
        return clip_scores(list(evaluate(model, pairs, self.reader, **given, strict=True)), self.names, metrics)


def machine(options: Options) -> dict[str, str]:
    """Commit, device, dtype and versions."""
    device = torch.device("cuda" if on_gpu(options) else "cpu")
    found = describe_machine(device, Path(__file__).parent)
    return {
        "commit": found["commit"],
        "device": found["device"] if on_gpu(options) else f"CPU, {options.threads} threads",
        "precision": resolved_precision(options),
        "python": found["python"],
        "torch": found["torch"],
    }


def merge_machines(earlier: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Both values where runs were made on two machines."""
    old = {name: earlier.get(name) or value for name, value in now.items()}
    return {name: old[name] if value in old[name] else f"{old[name]} and {value}" for name, value in now.items()}


def on_gpu(options: Options) -> bool:
    return not options.cpu and torch.cuda.is_available()


def write(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_recipe(main, Options, __doc__)
