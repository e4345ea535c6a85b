"""Pair lists and the clips that they name, good and bad."""

import json
import os
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import draw_image, make_clip
from evaluation_clips import load_stand_in, noise_clip, quick_reports, run, write_clips

import depthaware
from depthaware import extractors
from depthaware.cli.main import main
from depthaware.evaluation import (
    BUNDLED,
    EXPRESSION,
    METRICS,
    Clip,
    ClipReader,
    cross_identity,
    list_clips,
    read_pairs,
)
from depthaware.media.formats import VIDEO_SUFFIXES
from depthaware.media.image import fit_square, write_image
from depthaware.media.video import read_video


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("data"))


@pytest.fixture
def reader(data) -> ClipReader:
    return ClipReader(data, 64)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(extractors, "load", load_stand_in)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quick_reports():
        yield


def test_bundled_lists_are_whole():
    same, cross, best, celebv = (read_pairs(name) for name in BUNDLED)
    assert [len(pairs) for pairs in (same, cross, best, celebv)] == [2083] * 4
    assert all(pair.has_truth for pair in same) and not any(pair.has_truth for pair in cross + celebv)
    assert [pair[:4] for pair in cross] == [pair[:4] for pair in best]
    assert {pair.initial_frame for pair in cross} == {0} and best[0].initial_frame == 53
    assert celebv[0].source_frame == "P_Trump_64689.jpg_0000054394.jpg"


def test_pairings_depend_on_the_seed_alone_and_join_different_persons(data, reader):
    clips = list_clips(data)
    persons = dict(clips)
    pair_lists = [cross_identity(reader, clips, sources_per_clip=2, seed=seed) for seed in (1, 1, 2)]
    assert pair_lists[0] == pair_lists[1] != pair_lists[2]
    assert all(persons[pair.source_video] != persons[pair.driving_video] for pair in pair_lists[0].pairs)


def test_frames_are_found_by_number_and_by_name(data, reader):
    frames = [frame.image for frame in read_video(data / "test/clip1.mp4")]
    for name, which in (("clip1", 4), ("clip1.mp4", 2), ("test/clip1.mp4", 3), ("clip1", 0)):
        torch.testing.assert_close(reader.frame(name, which), fit_square(frames[int(which)], 64))
    assert torch.equal(reader.frame("clip3", "f_9.png"), reader.frame("clip3", 1))
    assert torch.equal(reader.frame("clip3", "f_10"), reader.frame("clip3.mp4", 2))


def test_clips_without_a_manifest_are_persons_of_their_own(tmp_path):
    for name in ("id1#a.mp4", "id1#b.mp4", "c.mp4", ".hidden.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames/1.png").touch()
    assert list_clips(tmp_path) == [
        Clip("c.mp4", "c.mp4"),
        Clip("frames", "frames"),
        Clip("id1#a.mp4", "id1"),
        Clip("id1#b.mp4", "id1"),
    ]


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory) -> Path:
    """Good clips and bad ones in "mixed", and much else that is wrong."""
    folder = tmp_path_factory.mktemp("bad")
    for name in ("mixed", "mixed/shots", "empty", "alone", "single", "listed", "split", "binary"):
        (folder / name).mkdir()
    noise_clip(folder / "mixed/good.mp4", 4, 0)
    noise_clip(folder / "mixed/wide.mp4", 4, 1, (48, 96))
    make_clip(folder / "mixed/one.mp4", 1)
    (folder / "mixed/text.mp4").write_text("I am no video.\n" * 100)
    for i in range(3):
        write_image(folder / f"mixed/shots/{i}.png", draw_image(i))
    os.truncate(folder / "mixed/shots/2.png", 100)
    shutil.copy(folder / "mixed/one.mp4", folder / "alone")
    shutil.copy(folder / "mixed/good.mp4", folder / "single")
    (folder / "listed/manifest.csv").write_text("name,kind,split\n")
    (folder / "split/manifest.csv").write_text("name,kind,split,identity\na,clip,train,b\n")
    (folder / "binary/manifest.csv").write_text("name,kind,split,identity\n" + "x" * 200_000)
    for name, text in TABLES.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


@pytest.fixture
def mixed(bad_files, tmp_path, monkeypatch) -> Path:
    """A current folder with all that, of its own."""
    shutil.copytree(bad_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("mixed")


HEADER = "source_video,source_frame,driving_video,driving_frame"


TABLES = {
    "empty": "",
    "header": HEADER,
    "columns": "a,b\n",
    "short": f"{HEADER}\na,1,b,2\na,1,b\n",
    "blank": f"{HEADER}\na,,b,2\n",
    "absent": f"{HEADER}\nnobody,1,good,2\n",
}


BAD_CLIPS = {
    "one.mp4: has 1 frame, expected at least 2": None,
    "text.mp4: is text, expected a video that FFmpeg decodes "
    "(mp4, mov, mkv, webm, avi, ts, mpg, flv, wmv, ogv, gif, ...)": None,
    "shots/2.png: is damaged or cut short (image file is truncated)": 1,
}


def test_bad_clips_among_good_ones_are_counted_with_their_reasons(mixed, tiny_weights, capsys):
    assert run(mixed, tiny_weights, "r") == 0
    assert capsys.readouterr().out == "r: 7 pairs of 3 driving videos, 1 failed\n"
    content = json.loads(Path("r/report.json").read_text())
    assert (content["pairs_scored"], content["pairs_failed"]) == (7, 1)
    found = {clip["reason"]: None for clip in content["failed_clips"]}
    assert found | {pair["reason"]: pair["pairs"] for pair in content["failed_pairs"]} == BAD_CLIPS
    assert all(reason in Path("r/report.md").read_text() for reason in BAD_CLIPS)


def test_pairs_of_absent_videos_and_frames_are_counted(mixed, tiny_weights, capsys):
    lines = ["good,0,good,1", "absent,0,good,1", "good,0,gone.mp4,3", "good,0,good,99", "good,face.png,good,1"]
    Path("p.csv").write_text("\n".join(["source_video,source_frame,driving_video,driving_frame", *lines]))
    assert run(mixed, tiny_weights, "r", protocol="p.csv") == 0
    failed = {entry["reason"] for entry in json.loads(Path("r/report.json").read_text())["failed_pairs"]}
    assert failed == {
        "absent: expected one clip or folder of frames of that name, found none",
        "gone.mp4: expected one clip or folder of frames of that name, found none",
        "good.mp4: has 4 frames, expected one of number 99",
        "good.mp4: is a video, expected the number of a frame, got 'face.png'",
    }


NAMES = [*(name for name in METRICS if name not in EXPRESSION), "expression", "fid"]
WRONG = {
    "--strict": "one.mp4: has 1 frame, expected at least 2",
    "--data absent": "data 'absent': expected a folder with clips or folders of frames",
    "--data empty": f"data 'empty': found no clips ({', '.join(VIDEO_SUFFIXES)}) and no folders of frames",
    "--data alone": "data 'alone': no clip gives a pair: one.mp4: has 1 frame, expected at least 2",
    "--data alone --protocol cross-identity": "data 'alone': no clip gives a pair: one.mp4: has 1 frame, "
    "expected at least 2",
    "--data single --protocol cross-identity": "cross-identity: expected clips of at least 2 identities, "
    "all are of 'good.mp4'",
    "--data listed": "listed/manifest.csv: expected the columns name, kind, split, identity, found no identity",
    "--data split": "split/manifest.csv: has no clips of split 'test', found train",
    "--data binary": "binary/manifest.csv: is not a CSV file (field larger than field limit (131072))",
    "--protocol none.csv": "none.csv: No such file or directory",
    "--protocol empty.csv": f"empty.csv line 1: expected the columns {HEADER}[,initial_frame], got []",
    "--protocol header.csv": "header.csv: has no pairs",
    "--protocol columns.csv": f"columns.csv line 1: expected the columns {HEADER}[,initial_frame], got ['a', 'b']",
    "--protocol short.csv": "short.csv line 3: expected 4 values, none of them empty, got ['a', '1', 'b']",
    "--protocol blank.csv": "blank.csv line 2: expected 4 values, none of them empty, got ['a', '', 'b', '2']",
    "--protocol absent.csv": "none of 1 pairs could be evaluated: nobody: expected one clip or folder of frames of "
    "that name, found none",
    "--protocol absent.csv --strict": "nobody: expected one clip or folder of frames of that name, found none",
    "--metrics l1,beauty": f"--metrics: expected all, or some of {', '.join(NAMES)}, got 'beauty'",
    "--metrics fid": "metrics: expected another metric beside fid, such as l1,fid, got fid alone",
    "--every 0": "argument --every: expected a whole number of at least 1, got '0'",
    "--output mixed": "output 'mixed': expected an empty folder or a report, found good.mp4",
    "--output short.csv": "output 'short.csv': is a file, expected a folder",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_said_in_one_line(mixed, tiny_weights, capsys, line):
    defaults = ["--data", "mixed", "--protocol", "same-identity", "--output", "r", "--weights", tiny_weights]
    assert main(["evaluate", *defaults, *line.split()]) == 2
    assert capsys.readouterr() == ("", f"depthaware: error: {WRONG[line]}\n")


def test_a_clip_is_cropped_around_its_face_wherever_that_is(tmp_path):
    video = read_video(Path(depthaware.__file__).parent / "assets" / "driving.mp4")
    frames = [frame.image for frame in islice(video, 6)]
    for name, left, top in (("left", 20, 120), ("right", 260, 40)):
        images = [np.full((400, 540, 3), 90, np.uint8) for _ in frames]
        for image, frame in zip(images, frames, strict=True):
            image[top : top + 256, left : left + 256] = frame
        make_clip(tmp_path / f"{name}.mp4", 6, (400, 540), images=images)
    make_clip(tmp_path / "none.mp4", 3, (96, 128))
    reader = ClipReader(tmp_path, 64, fit="face")
    for index in (0, 5):
        left, right = reader.frame("left", index), reader.frame("right", index)
        assert (left - right).abs().mean() < 0.03
        assert (left - ClipReader(tmp_path, 64).frame("left", index)).abs().mean() > 0.1  # the middle of the image
    with pytest.raises(ValueError, match=r"none\.mp4: found no face in 3 of its frames"):
        reader.frame("none", 0)
