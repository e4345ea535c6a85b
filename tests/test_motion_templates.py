"""Laws of motion templates and of the controls of motion."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clips import draw_image, make_moving_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from depthaware import DaGAN, Keypoints, inference, optimize, read_image, read_video
from depthaware.cli.main import main
from depthaware.inference import AnimateOptions, Animator, MotionTemplate, animate_to_file, record_motion
from depthaware.inference.controls import fit_affine, scale_motion
from depthaware.media.image import write_image

SOURCE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
CROP = dict(fit="crop", initial_frame=0)


def animate(model, source, driving, **options):
    return inference.animate(model, source, driving, **(CROP | options))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    pts = [24 * i + 5 * (i % 3) for i in range(40)]
    return read_video(make_moving_clip(tmp_path_factory.mktemp("clips") / "moving.mp4", pts=pts))


@pytest.fixture(scope="module")
def template(tiny_model, clip) -> MotionTemplate:
    return record_motion(tiny_model, clip, AnimateOptions(**CROP))


@pytest.fixture
def saved(template, tmp_path):
    template.save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def stack(frames) -> np.ndarray:
    return np.stack([frame.image for frame in frames]).astype(int)


@pytest.mark.parametrize(
    "options", [{}, {"smooth": True}, {"mode": "absolute"}, {"initial_frame": "best"}, {"initial_frame": 7}]
)
def test_a_template_animates_like_its_video(tiny_model, clip, saved, options):
    expected, found = (list(animate(tiny_model, SOURCE, driving, **options)) for driving in (clip, saved))
    assert abs(stack(expected) - stack(found)).max() <= 1  # key points of other batches differ by rounding
    assert abs(np.diff(stack(found), axis=0)).max() > 8
    assert [frame.time for frame in found] == [frame.time for frame in expected]
    assert all(frame.driving is None for frame in found)


def test_a_file_holds_all_but_the_sound(template, saved):
    loaded = MotionTemplate.load(saved)
    for name in ("ticks", "scenes", "found", "references"):
        assert torch.equal(getattr(loaded, name), getattr(template, name))
    assert all(torch.equal(a, b) for a, b in zip(loaded.keypoints, template.keypoints, strict=True))
    kept = ("rate", "time_base", "detector")
    assert [getattr(loaded, name) for name in kept] == [getattr(template, name) for name in kept]


def test_to_file_keeps_times_and_rate(tiny_model, clip, saved, tmp_path):
    for driving, name in ((clip, "video"), (saved, "template")):
        animate_to_file(tiny_model, SOURCE, driving, tmp_path / f"{name}.mp4", **CROP)
    videos = [read_video(tmp_path / f"{name}.mp4") for name in ("video", "template")]
    assert [frame.time for frame in videos[0]] == [frame.time for frame in videos[1]]
    assert videos[0].rate == videos[1].rate
    with pytest.raises(ValueError, match=r"compare: .* a motion template has none"):
        animate_to_file(tiny_model, SOURCE, saved, tmp_path / "c.mp4", compare=True)


def test_an_hour_for_the_bundled_weights_takes_less_than_35_mb(template, tmp_path):
    keypoints = Keypoints(torch.zeros(90_000, 15, 2), torch.zeros(90_000, 15, 2, 2))
    rows = torch.arange(90_000)
    whole = dict(keypoints=keypoints, ticks=rows, scenes=rows.int() * 0, found=rows >= 0)
    replace(template, **whole).save(tmp_path / "hour.safetensors")
    assert (tmp_path / "hour.safetensors").stat().st_size < 35e6


def test_other_weights_are_refused_and_fast_copies_are_not(tiny_model, template):
    list(animate(optimize(tiny_model), SOURCE, template))
    torch.manual_seed(5)
    other = DaGAN(**tiny_model.config).eval()
    with pytest.raises(ValueError, match=r"moving.mp4: expected key points of this model's detector"):
        animate(other, SOURCE, template)
    with pytest.raises(ValueError, match="a motion template, in which crops and scenes are settled, got follow"):
        animate(tiny_model, SOURCE, template, follow=True)
    with pytest.raises(ValueError, match="0 to 39, got 40"):
        animate(tiny_model, SOURCE, template, initial_frame=40)


FACTS = {"format": "depthaware motion template", "version": "1", "rate": "25", "time_base": "1/25", "detector": "x"}


@pytest.mark.parametrize(
    ("change", "facts", "message"),
    [
        ({}, {"format": "pt"}, "expected a motion template of --save-motion"),
        ({}, {"version": "2"}, "of version 1, got 2"),
        ({}, {"rate": "0"}, "expected rate, time base and detector"),
        ({}, {"time_base": "1/0"}, "expected rate, time base and detector"),
        ({"more": torch.zeros(1)}, {}, "expected keypoints, .*, got found, .*, more"),
        ({"found": torch.zeros(40)}, {}, "expected found in torch.bool, got torch.float32"),
        ({"ticks": torch.arange(39)}, {}, r"expected ticks of the shape \(40,\), got \(39,\)"),
        ({"ticks": torch.zeros(40, dtype=torch.int64)}, {}, "times that rise"),
        ({"keypoints": torch.full((40, 5, 2), torch.nan)}, {}, "finite keypoints"),
        ({"keypoints": torch.zeros(40, 10)}, {}, "of the shape"),
        ({"jacobian": torch.zeros(40, 4, 2, 2)}, {}, "jacobian of the shape"),
        ({"scenes": torch.arange(40).int()}, {}, "scenes numbered from 0 to 0"),
        ({"references": torch.tensor([40])}, {}, "each reference within its scene"),
        ({"references": torch.tensor([-1])}, {}, "each reference within its scene"),
        ({}, {"rate": "1e999999999"}, "expected rate, time base and detector"),
        ({}, {"rate": "1000000"}, "expected rate, time base and detector"),
        ({}, {"time_base": "1/100000000"}, "expected rate, time base and detector"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(saved, change, facts, message):
    save_file(load_file(saved) | change, saved, FACTS | facts)
    with pytest.raises(ValueError, match=f"m.safetensors: .*{message}") as error:
        MotionTemplate.load(saved)
    assert "\n" not in str(error.value)


def test_half_a_file_is_one_line(saved):
    saved.write_bytes(saved.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"m.safetensors: not a whole safetensors file"):
        MotionTemplate.load(saved)


def test_images_record_and_generators_do_not(tiny_model):
    images = [draw_image(i) for i in range(3)]
    assert record_motion(tiny_model, images, AnimateOptions(**CROP)).ticks.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="is read twice, expected no generator"):
        record_motion(tiny_model, iter(images))


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_no_strength_is_the_source_at_rest_and_more_is_more(tiny_model, template, mode):
    encoded = tiny_model.encode_source(torch.from_numpy(SOURCE / 255).permute(2, 0, 1)[None].float())
    rest = tiny_model.drive(encoded, encoded.keypoints).detach()
    moved = [
        stack(animate(tiny_model, SOURCE, template, mode=mode, strength=strength)) for strength in (0, 0.25, 0.5, 1)
    ]
    assert abs(moved[0] - (255 * rest[0]).permute(1, 2, 0).numpy()).max() <= 1
    far = [abs(frames - moved[0]).mean() for frames in moved]
    assert far == sorted(far) and far[-1] > far[1]


@settings(max_examples=30, deadline=None)
@given(head=st.floats(0, 3), expression=st.floats(0, 3), seed=st.integers(0, 99))
def test_head_and_expression_are_parts_of_the_motion(head, expression, seed):
    torch.manual_seed(seed)
    source = Keypoints(torch.rand(1, 9, 2) * 2 - 1, torch.eye(2).expand(1, 9, 2, 2) + 0.1 * torch.rand(1, 9, 2, 2))
    on_face = torch.arange(9) < 7
    matrix, shift = torch.eye(2) + 0.3 * torch.rand(2, 2), torch.rand(2)
    rigid = Keypoints(source.value @ matrix.T + shift, matrix @ source.jacobian)
    made = scale_motion(source, rigid, head, expression, on_face)
    for found, start, end in zip(made, source, rigid, strict=True):  # an affine motion has no expression
        torch.testing.assert_close(found, start + head * (end - start), rtol=0, atol=1e-3)
    moved = Keypoints(rigid.value + 0.1 * torch.randn(1, 9, 2), rigid.jacobian)
    assert scale_motion(source, moved, 1, 1, on_face) is moved
    one, two = (scale_motion(source, moved, head, share, on_face).value for share in (0.0, expression))
    fit = fit_affine(source.value[:, on_face], moved.value[:, on_face])
    rest = moved.value - torch.cat((source.value, torch.ones(1, 9, 1)), -1) @ fit
    torch.testing.assert_close((two - one)[:, :7], expression * rest[:, :7], rtol=0, atol=1e-3)
    torch.testing.assert_close(one[:, 7:], two[:, 7:])


def test_a_frozen_background_is_the_sources(tiny_model, template, monkeypatch):
    estimate = DaGAN.estimate_motion

    def halved(self, source, keypoints):
        motion = estimate(self, source, keypoints)
        mask = torch.zeros_like(motion.mask)
        mask[:, 0, :, : mask.shape[-1] // 2] = 1  # the left half is background
        mask[:, 1, :, mask.shape[-1] // 2 :] = 1
        return motion._replace(mask=mask)

    free = stack(animate(tiny_model, SOURCE, template))
    monkeypatch.setattr(DaGAN, "estimate_motion", halved)
    frozen = stack(animate(tiny_model, SOURCE, template, freeze_background=True))
    assert (frozen[:, :, :28] == SOURCE[:, :28]).all() and (free[:, :, :28] != SOURCE[:, :28]).any()
    np.testing.assert_array_equal(frozen[:, :, 36:], free[:, :, 36:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -1}, "strength: expected 0 to 3, got -1"),
        ({"head": float("nan")}, "head: expected 0 to 3, got nan"),
        (
            {"expression": 0.5},
            "expected a face with at least 6 key points in the source image, got 0",
        ),
    ],
)
def test_controls_that_cannot_work_are_one_line(tiny_model, template, options, message):
    with pytest.raises(ValueError, match=message):
        animate(tiny_model, SOURCE, template, **options)


def test_a_model_without_a_background_cannot_freeze_it(template):
    class Bare:
        image_size, device = 64, torch.device("cpu")

        def encode_source(self, image):
            return SimpleNamespace(keypoints=Keypoints(image))

    with pytest.raises(ValueError, match="freeze_background: expected a DaGAN"):
        Animator(Bare(), SOURCE, AnimateOptions(**CROP, freeze_background=True))


@pytest.fixture
def here(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip.path, "clip.mp4")
    write_image("me.png", SOURCE)


def run(line: str) -> int:
    return main(["animate", *line.split(), "--fit", "crop", "--quiet"])


def test_the_command_saves_motion_and_takes_it(here, tiny_weights):
    common = f"--source me.png --weights {tiny_weights} --initial-frame 0 --dtype float32"
    assert run(f"{common} --driving clip.mp4 --save-motion m.safetensors --follow --output a.mp4") == 0
    assert run(f"{common} --driving clip.mp4 --save-motion n.safetensors --compare --output c.mp4") == 0
    assert run(f"{common} --driving m.safetensors --output b.mp4") == 0
    assert Path("a.mp4").read_bytes() == Path("b.mp4").read_bytes()
    assert read_video("c.mp4").size == (64, 192)


def test_an_image_drives_to_an_image(here, tiny_model, tiny_weights, monkeypatch):
    write_image("you.png", draw_image(4, (64, 64)))
    common = f"--source me.png --driving you.png --weights {tiny_weights} --dtype float32"
    assert run(common) == run(f"{common} --output b.webp") == 0
    (expected,) = inference.animate(tiny_model, SOURCE, [read_image("you.png")], mode="absolute", fit="crop")
    assert abs(read_image("animation.png").astype(int) - expected.image).max() <= 1
    assert read_image("b.webp").shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--driving me.png --output a.mp4", "output 'a.mp4': expected a name that ends in .png"),
        ("--driving me.png --save-motion m.safetensors", "--save-motion: expected a driving video, got an image"),
        ("--driving me.png --compare", "--compare, --save-depth: expected a driving video, got an image"),
        ("--driving clip.mp4 --save-motion m.mp4", "output 'm.mp4': expected a name that ends in .safetensors"),
        ("--driving m.safetensors", "m.safetensors: No such file or directory"),
        ("--driving bad.safetensors", "bad.safetensors: is text, expected a safetensors file"),
        ("--driving bad.safetensors --compare", "--compare: expected a driving video, got a motion template"),
        ("--driving bad.safetensors --save-motion m.safetensors", "got a motion template already"),
        ("--strength 4", "--strength: expected 0 to 3, got 4.0"),
        ("--head nan", "--head: expected 0 to 3, got nan"),
    ],
)
def test_mistakes_are_one_line(here, tiny_weights, capsys, line, message):
    Path("bad.safetensors").write_bytes(b"x" * 99)
    before = sorted(Path().iterdir())
    assert run(f"{line} --source me.png --weights {tiny_weights}") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "loading" not in line]
    assert len(lines) == 1 and message in lines[0]
    assert sorted(Path().iterdir()) == before


def test_warnings_name_the_line_of_the_caller(tiny_model):
    with pytest.warns(UserWarning, match="no face found") as caught:
        list(inference.animate(tiny_model, SOURCE, [draw_image(i) for i in range(3)]))
    assert len(caught) == 2 and {warning.filename for warning in caught} == {__file__}
