"""Frames of clips by name and number: seeking, memory, squares, and which identities are held out."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import draw_image, make_clip, make_moving_clip, make_training_clips, pattern
from PIL import Image

from depthaware.data import Clips, crop_square, index_video, read_clip, read_frames
from depthaware.media.image import write_image
from depthaware.media.video import read_video

SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six clips of three persons."""
    return make_training_clips(tmp_path_factory.mktemp("data"))


VARIABLE = [5 + 25 * i + i * i % 19 for i in range(40)]  # at most 18 later than a steady pace
KINDS = {
    "b_frames.mp4": dict(bf="3", g="9"),
    "short_groups.mp4": dict(bf="8", g="3", **{"b-pyramid": "none"}),
    "open_groups.mp4": {"bf": "3", "g": "8", "x264-params": "open-gop=1"},
    "open_groups.mkv": {"bf": "3", "g": "8", "x264-params": "open-gop=1"},
    "long_group.mp4": dict(g="250"),
    "variable.mp4": dict(bf="2", g="12", pts=VARIABLE),
    "variable.mkv": dict(bf="2", g="12", pts=VARIABLE),
    "stream.ts": dict(bf="2", g="10"),
    "no_times.avi": dict(codec="mpeg4", bf="2", g="10"),
    "vp9.webm": dict(codec="libvpx-vp9", g="10", deadline="realtime"),
    "animation.gif": dict(codec="gif"),
}


@pytest.mark.parametrize("name", KINDS)
def test_seeking_gives_the_frames_of_decoding_all(name, tmp_path):
    path = make_moving_clip(tmp_path / name, **KINDS[name])
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with open(path, "rb") as file:
        index = index_video(file)
        assert len(index.times) == len(expected) == 40
        for wanted in (range(40), *([n] for n in range(40)), [39, 0, 17, 18], [8, 30]):
            for number, image in read_frames(file, index, wanted):
                assert np.array_equal(image, expected[number]), (number, wanted)


def make_anamorphic(path: Path) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for i in range(4):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(draw_image(i))))
        output.mux(stream.encode(None))
    return path


def make_gif(path: Path) -> Path:
    """Frames without durations, which FFmpeg takes for one."""
    images = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (24, 24, 3), np.uint8)) for i in range(4)]
    images[0].save(path, save_all=True, append_images=images[1:])
    return path


@pytest.mark.parametrize(
    "name, make",
    [
        ("untagged.mp4", lambda path: make_clip(path, 4, size=(720, 1280))),
        ("wide_pixels.mp4", make_anamorphic),
        ("no_durations.gif", make_gif),
        ("flash.flv", lambda path: make_clip(path, 4, codec="flv1")),
        ("program.mpg", lambda path: make_clip(path, 4, codec="mpeg2video")),
        ("media.wmv", lambda path: make_clip(path, 4, codec="wmv2")),
    ],
)
def test_clips_in_a_folder_are_found_and_look_as_they_do_to_read_video(name, make, tmp_path):
    expected = [frame.image for frame in read_video(make(tmp_path / name))]
    clips = Clips(tmp_path, SIZE, cache_gb=0)
    assert clips.names == [name] and clips.length(name) == len(expected) == 4
    assert np.array_equal(clips.read(name, [3, 1]), [crop_square(expected[i], SIZE) for i in (3, 1)])
    assert np.array_equal(read_clip(tmp_path / name, SIZE, every=2), [crop_square(expected[i], SIZE) for i in (0, 2)])


def test_a_frame_that_ogg_repeats_by_an_empty_packet_is_passed_over():
    path = Path(__file__).parent / "golden/repeated_frame.ogv"
    with open(path, "rb") as file:
        index = index_video(file)
        images = [image for _, image in read_frames(file, index, range(len(index.times)))]
    np.testing.assert_array_equal(images, [frame.image for frame in read_video(path)])


def test_memory_and_seeking_give_the_same_frames(data):
    in_memory, by_seeking = Clips(data, 24), Clips(data, 24, cache_gb=0)
    for name in in_memory.names:
        numbers = [7, 0, 11, 7]
        frames = in_memory.read(name, numbers)
        assert frames.shape == (4, 24, 24, 3) and np.array_equal(frames, by_seeking.read(name, numbers))
        assert np.array_equal(frames, in_memory.read(name, numbers))  # now out of memory
    for clips, number in ((in_memory, -1), (in_memory, 12), (by_seeking, -1), (by_seeking, 12)):
        with pytest.raises(ValueError, match=f"a1: has 12 frames, expected one of number {number}"):
            clips.read("a1", [0, number])


def test_memory_is_kept_within_its_bound(data):
    one = 12 * SIZE**2 * 3 / 1e9  # GB of one clip
    clips = Clips(data, SIZE, cache_gb=2.5 * one)
    for name in clips.names:
        clips.read(name, [0])
    assert sum(frames.nbytes for frames in clips._cached.values()) == round(2 * one * 1e9)


def test_frames_become_the_central_square_by_area(tmp_path):
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 32:96] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    write_image(tmp_path / "0.png", wide)
    expected = wide[:, 32:96].reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(Clips(tmp_path, 16).read(tmp_path.name, [0])[0], expected, atol=2)


def test_a_folder_of_images_is_a_clip(tmp_path):
    (tmp_path / "person").mkdir()
    for i, image in enumerate(pattern(0, 11)):
        write_image(tmp_path / "person" / f"{i}.png", image)  # 10.png after 9.png
    clips = Clips(tmp_path, SIZE, cache_gb=0)
    assert clips.length("person") == 11
    assert np.array_equal(clips.read("person", [10, 2]), [pattern(0)[10], pattern(0)[2]])


def test_hold_out_splits_the_persons(data):
    everyone, some, others = (
        Clips(data, SIZE),
        Clips(data, SIZE, hold_out=2),
        Clips(data, SIZE, hold_out=2, held_out=True),
    )
    assert list(some.by_identity) == ["a"] and list(others.by_identity) == ["b", "c"]
    assert sorted(some.names + others.names) == everyone.names == ["a1", "a2", "a3", "b1", "b2", "c1"]
    with pytest.raises(ValueError, match=r"hold_out: expected 0 to 2 of the 3 identities of .*, got 3"):
        Clips(data, SIZE, hold_out=3)
