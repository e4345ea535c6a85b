"""Clips in WebDataset tars, on disk and on a server: the same samples, and errors that name the shard."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from clips import make_training_clips
from hypothesis import given, settings
from hypothesis import strategies as st

from depthaware.data import Clips, FramePairs
from depthaware.data.prepare import ShardSample, write_shards

SIZE = 32


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six clips of three persons."""
    return make_training_clips(tmp_path_factory.mktemp("data"))


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def shards(data, tmp_path_factory) -> Path:
    """The clips of `data` as WebDataset writes them."""
    webdataset = pytest.importorskip("webdataset")
    folder = tmp_path_factory.mktemp("shards")
    paths = sorted((data / "train" / "clips").iterdir())
    for number, some in enumerate((paths[:4], paths[4:])):
        with webdataset.TarWriter(str(folder / f"{number}.tar")) as writer:
            for path in some:
                metadata = {"identity": path.stem[0], "split": "train"}
                writer.write({"__key__": path.stem, "mp4": path.read_bytes(), "json": metadata})
    return folder


def test_shards_give_the_samples_of_their_folder(data, shards):
    expected = FramePairs(Clips(data, SIZE))
    for where in (shards, f"{shards}/*.tar"):
        clips = Clips(where, SIZE, cache_gb=0)
        assert clips.by_identity == expected.clips.by_identity
        assert all(same(FramePairs(clips)[i], expected[i]) for i in range(4))
    with pytest.raises(ValueError, match="expected clips of split 'test', found none"):
        Clips(shards, SIZE, split="test")


def test_from_shards_on_a_server_only_the_bytes_of_the_clip_are_fetched(data, shards, monkeypatch):
    memory = fsspec.filesystem("memory")
    for path in shards.glob("*.tar"):
        memory.pipe(f"/server/{path.name}", path.read_bytes())
    clips = Clips("memory://server/*.tar", SIZE, cache_gb=0)
    fetched = []
    whole = type(memory).cat_file
    monkeypatch.setattr(type(memory), "cat_file", lambda *a, **k: fetched.append(whole(*a, **k)) or fetched[-1])
    assert np.array_equal(clips.read("b2", [3]), Clips(data, SIZE).read("b2", [3]))
    assert set(map(bytes, fetched)) == {(data / "train" / "clips" / "b2.mp4").read_bytes()}


def test_written_shards_are_read_by_webdataset_and_by_clips(data, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    paths = sorted((data / "train" / "clips").iterdir())
    write_shards(tmp_path, [ShardSample(path, path.stem[0], "train", 12, "film.mp4") for path in paths], megabytes=0.03)
    urls = sorted(map(str, tmp_path.glob("*.tar")))
    assert len(urls) > 1
    found = {sample["__key__"]: sample for sample in webdataset.WebDataset(urls, shardshuffle=False)}
    assert {key: sample["mp4"] for key, sample in found.items()} == {path.stem: path.read_bytes() for path in paths}
    assert json.loads(found["b1"]["json"])["identity"] == "b"
    assert Clips(tmp_path, SIZE).by_identity == Clips(data, SIZE).by_identity


@settings(max_examples=15, deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_shard_that_is_cut_short_is_named(shards, tmp_path_factory, share):
    with tarfile.open(shards / "0.tar") as tar:
        end = max(member.offset_data + -(-member.size // 512) * 512 for member in tar)
    cut = tmp_path_factory.mktemp("cut") / "cut.tar"
    cut.write_bytes((shards / "0.tar").read_bytes()[: int(share * (end + 1))])
    with pytest.raises(ValueError, match=r"cut\.tar: is cut short, or no tar file"):
        Clips(cut, SIZE)


def test_a_key_in_two_shards_is_refused(shards, tmp_path):
    for name in ("first.tar", "second.tar"):
        shutil.copy(shards / "0.tar", tmp_path / name)
    with pytest.raises(ValueError, match=r"second\.tar: has 'a1', which .*first.tar has too"):
        Clips(tmp_path, SIZE)


def write_tar(path: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("key.json", b"{a}", "key.json is not JSON"),
        ("key.json", b"\xff\xfe\xff", "key.json is not JSON"),
        ("key.json", b"[1]", "key.json: expected a JSON object, got list"),
        ("id10001#abc#001.txt#000.mp4", b"", "id10001#abc#001.txt#000.mp4: a key ends at the first dot"),
    ],
)
def test_an_invalid_file_in_a_shard_is_named(tmp_path, name, content, message):
    write_tar(tmp_path / "odd.tar", {name: content})
    with pytest.raises(ValueError, match=rf"odd\.tar: {message}"):
        Clips(tmp_path, SIZE)


def test_other_files_of_a_sample_are_ignored(data, tmp_path):
    clip = (data / "train" / "clips" / "a1.mp4").read_bytes()
    files = {"a.json": b'{"identity": "anna"}', "a.mp4": clip, "a.mask.mp4": b"", "a.eyes.json": b"[]", "._a.mp4": b""}
    write_tar(tmp_path / "0.tar", files)
    assert Clips(tmp_path, SIZE).by_identity == {"anna": ["a"]}


def test_a_folder_with_a_manifest_is_never_read_as_shards(data, shards, tmp_path):
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    write_tar(tmp_path / "backup.tar", {"test.mp4": b""})
    assert Clips(tmp_path, SIZE).by_identity == Clips(data, SIZE).by_identity


def test_a_server_that_fails_is_an_os_error_that_names_the_shard(shards, monkeypatch):
    class Unavailable(Exception):  # like those of aiohttp
        pass

    def fail(*_, **__):
        raise Unavailable("503")

    memory = fsspec.filesystem("memory")
    memory.pipe("/failing/0.tar", (shards / "0.tar").read_bytes())
    clips = Clips("memory://failing/0.tar", SIZE)
    monkeypatch.setattr(type(memory), "cat_file", fail)
    assert clips.check() == {}  # nothing is fetched for that
    with pytest.raises(OSError, match="Unavailable: 503") as error:
        clips.read("a1", [0])
    assert error.value.filename.startswith("memory:") and error.value.filename.endswith("/failing/0.tar")
