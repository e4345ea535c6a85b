"""examples/prepare_clips.py: which clips it makes, what it drops, and that neither kills nor workers change a byte."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import get_args, get_type_hints

import av
import numpy as np
import pytest
import torch
from clips import draw_image, file_contents, make_clip
from prepare_clips import Options, main
from skimage.data import astronaut
from skimage.transform import resize

import depthaware
from depthaware.data import Clips, Landmarks
from depthaware.data.prepare import find_raw, split_of
from depthaware.data.prepare.clip_files import KEY_FRAMES
from depthaware.data.prepare.raw_videos import LAYOUTS, clip_prefix
from depthaware.evaluation import list_clips
from depthaware.media.image import write_image
from depthaware.media.video import read_video
from depthaware.training.options import run_recipe

RECIPE = Path(__file__).parents[1] / "examples" / "prepare_clips.py"


# From raw videos to clips.


def pasted(image: np.ndarray, left: int, top: int, size: tuple[int, int] = (288, 448)) -> np.ndarray:
    frame = draw_image(0, size) // 2
    frame[top : top + len(image), left : left + len(image)] = image
    return frame


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """One video of each kind; names tell what is in it."""
    folder = tmp_path_factory.mktemp("raw")
    video = read_video(Path(depthaware.__file__).parent / "assets" / "driving.mp4")
    driving, portrait = [frame.image for frame in islice(video, 40)], astronaut()[:256, 96:352]
    anna = [pasted(image, 100 + i // 2, 16) for i, image in enumerate(driving)]
    ben = [pasted(portrait, 60 + 2 * i, 20) for i in range(30)]
    rng = np.random.default_rng(0)
    videos = {
        "anna/good.mp4": anna,
        "anna/cut.mp4": [*anna[:30], *ben],
        "ben/still.mp4": ben[:1] * 30,
        "ben/short.mp4": ben[:20],
        "carol/no_face.mp4": [pasted(rng.integers(0, 255, (200, 200, 3), dtype=np.uint8), i, 0) for i in range(30)],
        "carol/small.mp4": [image[::2, ::2] for image in anna[:30]],
        "dora/edge.mp4": [pasted(image[50:220, 43:213], 60 + i, 0, (170, 448)) for i, image in enumerate(driving[:30])],
        "dora/two.mp4": [
            np.concatenate((pasted(a, i, 9, (280, 300)), pasted(a[:, ::-1], 9, 9, (280, 300))), axis=1)
            for i, a in enumerate(driving[:30])
        ],
    }
    for name, images in videos.items():
        (folder / name).parent.mkdir(exist_ok=True)
        make_clip(folder / name, len(images), images[0].shape[:2], images=images)
    (folder / "erin").mkdir()
    (folder / "erin" / "cut_short.mp4").write_bytes((folder / "anna/good.mp4").read_bytes()[:20000])
    (folder / "erin" / "empty.mp4").touch()
    return folder


OPTIONS = Options("", size=64, min_side=150, test_share=0.5, workers=1)


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("prepared")
    main(replace(OPTIONS, data=str(raw), output=str(output)))
    return output


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def clip_of(folder: Path, row: dict[str, str]) -> Path:
    return folder / row["split"] / "clips" / f"{row['name']}.mp4"


def test_every_second_of_the_raw_videos_is_a_clip_or_dropped_with_its_reason(raw, prepared):
    clips = [(row["source"], float(row["start"]), int(row["frames"])) for row in table(prepared / "manifest.csv")]
    assert clips == [("anna/cut.mp4", 0.0, 30), ("anna/cut.mp4", 1.2, 30), ("anna/good.mp4", 0.0, 40)]
    assert {row["source"]: row["reason"].partition(":")[0] for row in table(prepared / "dropped.csv")} == {
        "ben/still.mp4": "still",
        "ben/short.mp4": "too short",
        "carol/no_face.mp4": "no face",
        "carol/small.mp4": "face too small",
        "dora/edge.mp4": "at the edge",
        "dora/two.mp4": "several faces",
        "erin/cut_short.mp4": "unreadable",
        "erin/empty.mp4": "unreadable",
    }
    seconds = sum(float(row["seconds"]) for name in ("manifest", "dropped") for row in table(prepared / f"{name}.csv"))
    readable = [raw / source for source in find_raw(raw) if "erin" not in source]
    assert seconds == pytest.approx(sum(read_video(path).frames for path in readable) / 25)


def test_a_clip_shows_the_box_of_its_source_at_its_time(raw, prepared):
    for row in table(prepared / "manifest.csv"):
        left, top, side = map(int, row["box"].split())
        first = next(frame for frame in read_video(raw / row["source"]) if frame.time >= float(row["start"]))
        expected = resize(first.image[top : top + side, left : left + side], (64, 64), anti_aliasing=True)
        shown = next(iter(read_video(clip_of(prepared, row)))).image / 255
        assert np.abs(shown - expected).mean() < 0.02


def test_clips_are_read_at_random_from_key_frames_nearby(prepared):
    for row in table(prepared / "manifest.csv"):
        with av.open(str(clip_of(prepared, row))) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [
                *range(0, len(packets), KEY_FRAMES)
            ]
            assert all(packet.pts == packet.dts for packet in packets)  # no B-frames
            assert len(packets) == int(row["frames"])
            assert len(container.streams) == 1


def test_persons_are_in_one_split_and_rows_say_where_files_are(prepared):
    rows = table(prepared / "manifest.csv")
    assert [row["split"] for row in rows] == [split_of(row["identity"], 0.5) for row in rows]
    assert {clip_of(prepared, row) for row in rows} == set(prepared.glob("*/clips/*"))
    assert list(rows[0])[:8] == ["name", "kind", "split", "identity", "frames", "source", "start", "box"]


# Cropped videos, which need no face detection.


def crops(folder: Path, count: int, frames: int = 30) -> Path:
    for i in range(count):
        (folder / f"p{i}").mkdir(parents=True, exist_ok=True)
        images = [draw_image(2 * i + abs(k % 8 - 4), (64, 80)) for k in range(frames)]
        make_clip(folder / f"p{i}" / "a.mp4", frames, (64, 80), images=images)
    return folder


@pytest.fixture
def cropped(tmp_path) -> Options:
    data = str(crops(tmp_path / "raw", 4))
    return Options(data=data, output=str(tmp_path / "out"), cropped=True, size=32, min_side=32, workers=1)


def test_a_killed_run_resumes_to_the_same_bytes_whatever_the_number_of_workers(cropped, tmp_path):
    crops(tmp_path / "raw", 8, 100)
    main(replace(cropped, output=str(tmp_path / "whole")))
    endless = tmp_path / "raw" / "p7" / "a.mp4"
    endless.rename(tmp_path / "a.mp4")
    os.mkfifo(endless)  # opening it blocks, so that the run is killed before its end
    flags = ["--data", cropped.data, "--output", cropped.output, "--cropped", "--size", "32", "--min-side", "32"]
    process = subprocess.Popen([sys.executable, str(RECIPE), *flags, "--workers", "2"], stdout=subprocess.PIPE)
    while not list(tmp_path.glob("out/.done/*.json")) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.communicate(timeout=60)  # until its workers, which print to the same pipe, have followed
    with pytest.raises(ValueError, match=r"manifest\.csv: has no clips of split 'train'"):
        list_clips(tmp_path / "out", "train")
    (tmp_path / "a.mp4").rename(endless)
    main(cropped)
    assert file_contents(tmp_path / "out") == file_contents(tmp_path / "whole")


def test_only_new_and_changed_videos_are_processed(cropped, tmp_path, capsys):
    main(cropped)
    before, split = (
        file_contents(tmp_path / "out"),
        {row["source"]: row["split"] for row in table(tmp_path / "out/manifest.csv")},
    )
    crops(tmp_path / "raw", 1, 60)
    shutil.copytree(tmp_path / "raw" / "p1", tmp_path / "raw" / "new")
    capsys.readouterr()
    main(cropped)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if "/2 " in line] == ["new/a.mp4:", "p0/a.mp4:"]
    rows = {row["source"]: row for row in table(tmp_path / "out" / "manifest.csv")}
    assert rows["p0/a.mp4"]["frames"] == "60" and len(rows) == 5
    assert {source: rows[source]["split"] for source in split} == split
    after = file_contents(tmp_path / "out")
    assert {name for name in before if after[name] != before[name]} == {
        "manifest.csv",
        f".done/{clip_prefix('p0/a.mp4')}.json",
        str(clip_of(Path(), rows["p0/a.mp4"])),
    }


def test_a_video_that_was_replaced_by_one_of_the_same_size_is_processed_again(cropped, tmp_path, capsys):
    main(cropped)
    capsys.readouterr()
    os.utime(tmp_path / "raw" / "p1" / "a.mp4", ns=(0, 1))
    main(cropped)
    assert "1/1 p1/a.mp4: 1 clips, 0 dropped" in capsys.readouterr().out


def test_rows_are_of_videos_and_clips_that_are_still_there(cropped, tmp_path):
    main(cropped)
    before = table(tmp_path / "out" / "manifest.csv")
    clip_of(tmp_path / "out", before[1]).unlink()  # deleted by hand
    (tmp_path / "raw" / "p0").rename(tmp_path / "raw" / "renamed")
    shutil.rmtree(tmp_path / "raw" / "p2")
    main(cropped)
    rows = table(tmp_path / "out" / "manifest.csv")
    assert {row["source"] for row in rows} == {"renamed/a.mp4", "p3/a.mp4"}
    (tmp_path / "raw" / "renamed").rename(tmp_path / "raw" / "p0")
    main(cropped)
    assert table(tmp_path / "out" / "manifest.csv") == [before[0], before[3]]  # without work


def test_the_table_of_a_resumed_output_has_finished_videos_only(cropped, tmp_path, monkeypatch):
    main(cropped)
    crops(tmp_path / "raw", 1, 60)
    monkeypatch.setattr("prepare_clips.map_in_processes", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        main(cropped)
    assert [row["source"] for row in table(tmp_path / "out" / "manifest.csv")] == ["p1/a.mp4", "p2/a.mp4", "p3/a.mp4"]


def test_a_name_that_is_not_text_leaves_the_tables_readable(cropped, tmp_path, monkeypatch):
    strange = os.fsdecode(b"p0/caf\xe9.mp4")
    (tmp_path / "raw" / "p0" / "a.mp4").rename(tmp_path / "raw" / strange)
    Path(tmp_path / "raw" / os.fsdecode(b"p0/\xe9.mp4")).touch()
    lines = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", lines)
    main(cropped)
    assert len(list_clips(tmp_path / "out", "all")) == 4
    rows = table(tmp_path / "out" / "manifest.csv")
    assert r"p0/caf\udce9.mp4" in {row["source"] for row in rows}
    assert all(clip_of(tmp_path / "out", row).exists() for row in rows)
    assert [row["source"] for row in table(tmp_path / "out" / "dropped.csv")] == [r"p0/\udce9.mp4"]


def test_a_dangling_link_is_dropped_until_its_target_exists(cropped, tmp_path):
    target = tmp_path / "elsewhere.mp4"
    (tmp_path / "raw" / "p0" / "a.mp4").rename(target)
    (tmp_path / "raw" / "p0" / "a.mp4").symlink_to(target)
    target.rename(tmp_path / "away.mp4")
    for _ in range(2):
        main(cropped)
        (row,) = table(tmp_path / "out" / "dropped.csv")
        assert row["source"] == "p0/a.mp4" and row["reason"].startswith("unreadable: ")
    (tmp_path / "away.mp4").rename(target)
    main(cropped)
    assert len(table(tmp_path / "out" / "manifest.csv")) == 4 and not table(tmp_path / "out" / "dropped.csv")


def test_a_video_that_fails_at_the_second_reading_is_named(cropped, monkeypatch):
    def fail(*_, **__):
        raise ValueError("some frame cannot be encoded")

    monkeypatch.setattr("prepare_clips.write_clip", fail)
    with pytest.raises(ValueError, match=r"raw/p0/a\.mp4: some frame cannot be encoded"):
        main(cropped)


def test_a_dry_run_makes_the_first_video_and_writes_nothing(cropped, tmp_path, capsys):
    main(replace(cropped, dry_run=True))
    assert capsys.readouterr().out.splitlines()[1] == "dry run: p0/a.mp4: 1 clips, 0 dropped; nothing was written"
    assert not (tmp_path / "out").exists()
    main(cropped)
    before = file_contents(tmp_path / "out")
    with pytest.raises(ValueError, match="was created with --size 32, got --size 64"):
        main(replace(cropped, size=64, dry_run=True))
    main(replace(cropped, dry_run=True))
    assert file_contents(tmp_path / "out") == before


def test_long_videos_are_divided_evenly_and_frames_picked(cropped, tmp_path):
    main(replace(cropped, max_seconds=0.8, min_seconds=0.3, fps=10))
    rows = table(tmp_path / "out" / "manifest.csv")
    assert [row["start"] for row in rows] == ["0.0", "0.6"] * 4
    assert {row["frames"] for row in rows} == {"6"} and {row["seconds"] for row in rows} == {"0.6"}
    assert float(read_video(clip_of(tmp_path / "out", rows[0])).rate) == 10
    assert {row["box"] for row in rows} == {"8 0 64"}


def test_folders_of_frames_are_videos(cropped, tmp_path):
    for number in range(30):
        (tmp_path / "raw" / "frames" / "one").mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "raw" / "frames" / "one" / f"{number}.png", draw_image(abs(number % 8 - 4)))
    (tmp_path / "raw" / "p0" / "thumbnail.png").write_bytes(b"")
    main(cropped)
    rows = {row["source"]: row for row in table(tmp_path / "out" / "manifest.csv")}
    assert rows["frames/one"]["frames"] == "30" and len(rows) == 5


def test_videos_that_are_not_named_as_the_others_are_dropped(cropped, tmp_path):
    (tmp_path / "raw" / "p0" / "a.mp4").rename(tmp_path / "raw" / "id00001#a#1#2.mp4")
    main(replace(cropped, layout="voxceleb"))
    assert [row["identity"] for row in table(tmp_path / "out" / "manifest.csv")] == ["id00001"]
    reasons = [row["reason"] for row in table(tmp_path / "out" / "dropped.csv")]
    assert reasons == ["no identity: not named as in voxceleb"] * 3


def test_landmarks_are_added_to_clips_that_have_none(cropped, monkeypatch, capsys):
    """Also to an output that was made without, and once."""

    class Detector:
        name = "everywhere in the middle"

        def __call__(self, images):
            assert images.shape[1:] == (3, cropped.size, cropped.size)
            return torch.full((len(images), 68, 2), (cropped.size - 1) / 2)

    monkeypatch.setattr("prepare_clips.load_extractor", lambda *_: Detector())
    main(cropped)
    with_landmarks = replace(cropped, landmarks="dlib-mean", landmarks_every=10, workers=1)
    main(with_landmarks)
    clips = Clips(cropped.output, cropped.size, split="all")
    landmarks = Landmarks(Path(cropped.output, "landmarks"))
    assert landmarks.detector == Detector.name
    for name in clips.names:
        points, _ = landmarks.read(name, clips.length(name))
        assert (points[::10] == 0).all() and np.isnan(np.delete(points, np.s_[::10], 0)).all()
    before = file_contents(Path(cropped.output))
    capsys.readouterr()
    main(with_landmarks)
    assert "with a face" not in capsys.readouterr().out and file_contents(Path(cropped.output)) == before


def test_shards_hold_all_clips_in_samples_that_stay_together(cropped, tmp_path):
    main(replace(cropped, shards=0.03, test_share=0.0))
    rows = {row["name"]: row for row in table(tmp_path / "out" / "manifest.csv")}
    shards = sorted((tmp_path / "out" / "train" / "shards").iterdir())
    assert [shard.name for shard in shards] == [f"{i:06d}.tar" for i in range(len(shards))]
    assert len(shards) > 1 and all(shard.stat().st_size <= 30000 for shard in shards)
    keys = []
    for shard in shards:
        with tarfile.open(shard) as tar:
            for video, label in zip(*[iter(tar)] * 2, strict=True):
                key = video.name.removesuffix(".mp4")
                assert label.name == f"{key}.json" and video.mtime == 0
                assert tar.extractfile(video).read() == clip_of(tmp_path / "out", rows[key]).read_bytes()
                expected = {name: rows[key][name] for name in ("identity", "split", "source")}
                assert json.load(tar.extractfile(label)) == {**expected, "frames": int(rows[key]["frames"])}
                keys.append(key)
    assert sorted(keys) == sorted(rows)


# Errors are one line.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "absent"}, "data 'absent': expected a folder of videos"),
        ({"data": "hollow"}, "data 'hollow': holds no videos"),
        ({"output": "raw/out"}, "output 'raw/out': is inside of data"),
        ({"output": "other"}, "output 'other': holds other files"),
        ({"size": 255}, "--size: expected an even number from 32 on, as H.264 needs, got 255"),
        ({"size": 8}, "--size: expected"),
        ({"data": None}, "--data: expected a folder of videos, or of folders of frames, got none; take VoxCeleb"),
        ({"layout": "vox"}, "--layout: expected auto, voxceleb, hdtf, celebv or folders, got 'vox'"),
        ({"margin": 0.5}, "--margin: expected"),
        ({"workers": 0}, "--workers: expected 1 or more, got 0"),
        ({"max_seconds": 1.0}, "--max-seconds: expected"),
        ({"min_side": 500}, "gave no clip; most often: face too small"),
    ],
)
def test_a_wrong_option_is_one_line(cropped, tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    Path("hollow").mkdir()
    Path("other").mkdir()
    Path("other", "thesis.tex").touch()
    given = {"data": "raw", "output": "out", "size": 32, "min_side": 32, "workers": 1, **change}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
    monkeypatch.setattr(sys, "argv", ["prepare_clips.py", "--cropped", *flags])
    with pytest.raises(SystemExit) as end:
        run_recipe(main, Options, None)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_every_layout_can_be_chosen():
    assert get_args(get_type_hints(Options)["layout"]) == ("auto", *LAYOUTS)


def test_an_output_is_not_resumed_under_other_options(cropped):
    main(cropped)
    with pytest.raises(ValueError, match="was created with --size 32, got --size 64"):
        main(replace(cropped, size=64))
    main(replace(cropped, layout="folders", shards=1.0))  # what "auto" found; shards are made anew anyway
