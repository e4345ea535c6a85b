"""Raw videos: identities, splits and clip names from file names."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware.data.prepare import choose_layout, find_raw, identity_of, split_of
from depthaware.data.prepare.raw_videos import clip_prefix
from depthaware.evaluation import list_clips

laws = settings(max_examples=100, deadline=None, derandomize=True)


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
def test_a_larger_share_removes_no_identity_from_the_test_split(names, share):
    def tested(share):
        return {name for name in names if split_of(name, share) == "test"}

    assert tested(0) == set()
    assert tested(share) <= tested(share + 0.1)
    assert tested(1) == set(names)


def test_the_split_of_a_name_is_the_same_in_every_version():
    """Otherwise persons that a model was trained on would move to the test split."""
    names = ["id10283", "RD_Radio10", "WRA_MikeJohanns", "M2Ohb0FAaJU", "anna", "ben", "carol", "dora"]
    train = [name for name in names if split_of(name, 0.5) == "train"]
    assert train == ["WRA_MikeJohanns", "M2Ohb0FAaJU"]


def test_the_share_is_one_of_persons():
    assert Counter(split_of(f"person {i}", 0.2) for i in range(2000))["test"] == pytest.approx(400, abs=60)


def test_no_two_sources_share_a_name():
    sources = ["a/b.mp4", "a-b.mp4", "a_b.mp4", "a/b.mov", "a b.mp4", "á.mp4", "x.y.mp4", "A/B.mp4"]
    names = [clip_prefix(source) for source in sources]
    assert len({name.lower() for name in names}) == len(sources)
    assert all("." not in name and "/" not in name and name.isascii() for name in names)


@pytest.mark.parametrize("suffix", [".mp4", ".MOV", ".webm", ".mkv", ".avi", ".gif", ".m4v", ".ts"])
def test_every_kind_of_video_is_prepared_and_listed(suffix, tmp_path):
    (tmp_path / f"a{suffix}").touch()
    assert find_raw(tmp_path) == [f"a{suffix}"]
    assert [clip.name for clip in list_clips(tmp_path)] == [f"a{suffix}"]
