"""Written files: containers, codecs, quality, size and sound."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import draw_image, make_clip, packets, times

from depthaware.cli.main import main
from depthaware.inference import animate_to_file
from depthaware.media.audio import sound_in
from depthaware.media.formats import CODECS
from depthaware.media.panels import frame_size, letterbox
from depthaware.media.video import Frame, read_video, write_video

IMAGES = [draw_image(i, (64, 96)) for i in range(8)]


def write(path: Path, images=IMAGES, **options) -> Path:
    with write_video(path, images[0].shape[:2], Fraction(25), **options) as add:
        for i, image in enumerate(images):
            add(Frame(image, Fraction(i, 25)))
    return path


def error(path: Path, images=IMAGES) -> float:
    made = [frame.image.astype(float) for frame in read_video(path)]
    return float(np.mean([np.mean(abs(a - b)) for a, b in zip(made, images, strict=True)]))


@pytest.mark.parametrize("suffix, codec", [(suffix, codec) for suffix in CODECS for codec in CODECS[suffix]])
def test_every_codec_keeps_frames_times_and_colors(tmp_path, suffix, codec):
    path = write(tmp_path / ("new/%04d.png" if suffix == ".png" else f"new/a{suffix}"), codec=codec)
    video = read_video(path)
    assert [frame.time for frame in video] == pytest.approx([i / 25 for i in range(8)], abs=1e-3)
    assert error(path) < (12 if suffix == ".gif" else 4)  # 256 colors
    if suffix not in (".png", ".webp"):  # FFmpeg does not open animated WebP
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.codec.canonical_name == codec
    names = sorted(file.name for file in (tmp_path / "new").iterdir())
    assert names == ([f"{i:04d}.png" for i in range(8)] if suffix == ".png" else [f"a{suffix}"])


@pytest.mark.parametrize("size", [(64, 96), (720, 1280)])
def test_colors_of_any_size_are_those_that_players_assume(tmp_path, size):
    image = np.full((*size, 3), (200, 40, 60), np.uint8)
    assert error(write(tmp_path / "a.mp4", [image]), [image]) < 4


@pytest.mark.parametrize("name, codec", [("a.mp4", "h264"), ("a.mp4", "av1"), ("a.webm", "vp9"), ("a.webp", "webp")])
def test_more_quality_is_a_larger_file_nearer_to_the_images(tmp_path, name, codec):
    noise = [np.random.default_rng(i).integers(0, 256, (64, 96, 3), np.uint8) for i in range(3)]
    low, high = (write(tmp_path / f"{q}{name}", noise, codec=codec, quality=q) for q in (10, 95))
    assert low.stat().st_size < high.stat().st_size and error(low, noise) > error(high, noise)


def test_frames_that_no_browser_shows_are_left_out_of_a_gif(tmp_path):
    with write_video(tmp_path / "a.gif", (64, 96), Fraction(100)) as add:
        for i in range(8):
            add(Frame(draw_image(i, (64, 96)), Fraction(i, 100)))
    assert times(tmp_path / "a.gif") == [Fraction(i, 50) for i in range(4)]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "deep/er/a.webm", "frames/%d.png"])
def test_after_an_error_neither_files_nor_folders_are_left(tmp_path, name):
    with pytest.raises(KeyError), write_video(tmp_path / name, (64, 96), Fraction(25)) as add:
        add(Frame(IMAGES[0], Fraction(0)))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "container, audio, copied",
    [("mp4", "aac", True), ("mov", "pcm_s16le", True), ("mp4", "pcm_s16le", False), ("webm", "libopus", True),
     ("webm", "aac", False)],
)  # fmt: skip
def test_sound_is_copied_where_players_accept_it(tmp_path, container, audio, copied):
    source = make_clip(tmp_path / "a.mov" if audio != "libopus" else tmp_path / "a.mkv", 50, audio=audio)
    path = write(tmp_path / f"b.{container}", IMAGES * 6, audio=source)
    assert (
        (packets(path, "audio") == packets(source, "audio"))
        == copied
        == (sound_in(source, f".{container}") == "sound copied")
    )
    with av.open(str(path)) as made:
        length = sum(frame.samples for frame in made.decode(audio=0)) / 48000
    assert abs(length - 2) < 0.06


def test_sound_of_another_file_ends_with_the_video(tmp_path, tiny_model):
    clip, song = make_clip(tmp_path / "a.mp4", audio="aac"), tmp_path / "song.wav"
    make_sound(song, seconds=3)
    for name in ("b.mp4", "b.webm"):
        options = {"fit": "crop", "initial_frame": 0, "audio": song}
        animate_to_file(tiny_model, IMAGES[0], clip, tmp_path / name, **options)
        with av.open(str(tmp_path / name)) as made:
            length = sum(frame.samples for frame in made.decode(audio=0)) / 48000
        assert abs(length - 12 / 25) < 0.05


def make_sound(path: Path, seconds: int) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * seconds), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.mark.parametrize("shape, wanted, size", [((90, 160), 320, (180, 320)), ((90, 160), None, (90, 160)),
                                                 ((160, 90), 80, (80, 45)), ((9, 16), (64, 64), (64, 64))])  # fmt: skip
def test_a_size_is_the_longer_side_or_both(shape, wanted, size):
    assert frame_size(shape, wanted) == size


def test_a_letterbox_keeps_the_shape_between_black_bars():
    boxed = letterbox(np.full((50, 100, 3), 200, np.uint8), (80, 80))
    assert boxed.shape == (80, 80, 3) and (boxed[20:60] == 200).all()
    assert not boxed[:20].any() and not boxed[60:].any()
    assert (letterbox(np.full((33, 101, 3), 200, np.uint8), frame_size((33, 101), 64)) == 200).all()


@pytest.mark.parametrize(
    "options, summary",
    [
        ("--output new/a.webm --size 96x80", "new/a.webm: 12 frames, 96 x 80, 25 fps, sound aac made Opus"),
        ("--output a.gif --size 32", "a.gif: 12 frames, 32 x 32, 25 fps, without sound"),
        ("--output a.mov --codec hevc --quality 40", "a.mov: 12 frames, 64 x 64, 25 fps, sound copied"),
        ("--output f/%02d.png", "f/%02d.png: 12 frames, 64 x 64, 25 fps, without sound"),
        ("--output a.mp4 --audio song.wav", "a.mp4: 12 frames, 64 x 64, 25 fps, sound pcm_s16le made AAC"),
    ],
)
def test_animate_writes_by_suffix(tmp_path, tiny_weights, monkeypatch, capsys, options, summary):
    monkeypatch.chdir(tmp_path)
    make_sound(Path("song.wav"), 1)
    files = ["--driving", str(make_clip(Path("clip.mp4"), audio="aac")), "--fit", "crop", "--initial-frame", "0"]
    assert main(["animate", *files, "--weights", tiny_weights, *options.split()]) == 0
    assert capsys.readouterr().out.splitlines()[0] == summary
    assert read_video(options.split()[1]).frames == 12


BAD = {
    "--output a.mp4 --codec vp9": "output 'a.mp4': expected a codec of h264, hevc, av1, got vp9",
    "--output a.gif --quality 50": "output 'a.gif': gif has one quality, expected no other, got 50",
    "--quality 0": "quality: expected 1 to 100, got 0",
    "--size 8": "expected the longer side or WIDTHxHEIGHT, each 16 to 16384 pixels, got '8'",
    "--output a.png": "output 'a.png': expected a pattern for the names of its frames, such as frames/%04d.png",
    "--output old/%d.png": "old/1.png: is there, expected a folder without frames for old/%d.png",
    "--output a.gif --audio song.wav": "--audio song.wav: expected none, a.gif can have no sound",
    "--audio missing.wav": "missing.wav: No such file or directory",
    "--audio source": "portrait.png: has no sound that can be decoded",
}


@pytest.mark.parametrize("line", BAD)
def test_wrong_outputs_are_one_line(tmp_path, tiny_weights, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    Path("old").mkdir()
    Path("old/1.png").touch()
    assert main(["animate", "--weights", tiny_weights, *line.split()]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and BAD[line] in message
    assert sorted(path.name for path in Path().rglob("*")) == ["1.png", "old"]
