"""The benchmark compares like with like, and its page shows what it measured."""

import json
import subprocess
import sys

import benchmark_tables
import peers
import pytest
import torch
from benchmark import Options, in_batches, time_parts, time_variants
from measurement import peak_megabytes
from reference_path import Reference

from depthaware import DaGAN
from depthaware.evaluation.machine import describe_machine


@pytest.fixture
def turned_on(tiny_model) -> DaGAN:
    """With an attention that counts."""
    model = DaGAN(**tiny_model.config).eval()
    model.load_state_dict(tiny_model.state_dict())
    model.generator.attention.gate.data.fill_(0.5)
    return model


@torch.inference_mode()
def test_the_reference_gives_the_frames_of_the_model(turned_on):
    source, driving = torch.rand(1, 3, 64, 64), torch.rand(3, 3, 64, 64)
    expected = turned_on.drive(turned_on.encode_source(source), turned_on.detect_keypoints(driving))
    torch.testing.assert_close(Reference(turned_on, source)(driving), expected)
    torch.testing.assert_close(in_batches(turned_on, source, 2)(driving), expected)


@torch.inference_mode()
def test_every_variant_and_part_is_timed(turned_on):
    options = Options(rounds=1, quick=True)
    variants = time_variants(turned_on, 64, options, 2)
    assert variants["reference"]["ratio"] == 1 and variants["reference"]["difference"] == 0
    assert all(row["psnr"] > 35 and row["milliseconds"] > 0 for row in variants.values())
    parts = time_parts(turned_on, 64, options, 2, torch.float32)
    whole, *rest = (parts[name]["gigaflop"] for name in ("all of a frame", "depth", "key points", "dense motion"))
    assert whole > sum(rest) > 0


def test_modules_of_a_checkout_are_found_inside_it_alone(tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "peer_network.py").write_text("WIDTH = 7")
    with peers.imports_from(tmp_path) as load:
        assert load("modules.peer_network").WIDTH == 7
    assert str(tmp_path) not in sys.path and "modules.peer_network" not in sys.modules
    with pytest.raises(ValueError, match=r"^--peers: expected a checkout with its modules, got .* \(No module"):  # noqa: SIM117
        with peers.imports_from(tmp_path) as load:
            load("modules.absent")


@pytest.mark.parametrize("text", ["fomm", "fomm=", "fomm=missing", "other=.", "fomm=.,x"])
def test_peers_that_are_no_folders_are_refused(text):
    with pytest.raises(ValueError, match=r"^--peers: expected NAME=FOLDER with one of fomm, liveportrait, got "):
        peers.parsed(text)


def test_peak_memory_counts_what_was_held_for_a_moment():
    megabytes = peak_megabytes(lambda: torch.ones(25_000_000).sum(), "cpu")
    assert 95 < megabytes < 130


def test_the_page_shows_the_figures_of_its_files():
    page = benchmark_tables.PAGE.read_text()
    assert benchmark_tables.filled(page) == page
    measured = [
        file for name in benchmark_tables.BLOCK.findall(page) if (file := benchmark_tables.PAGE.parent / name).exists()
    ]
    assert measured
    for file in measured:
        assert f"commit {json.loads(file.read_text())['machine']['commit']}" in page


def test_the_machine_is_described_with_the_commit_of_the_script(tmp_path):
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    assert describe_machine("cpu", tmp_path)["commit"] == ""
    script = tmp_path / "script.py"
    script.touch()
    git("init")
    git("add", "script.py")
    git("commit", "--message", "first")
    found = describe_machine("cpu", tmp_path)
    assert found["commit"] == git("rev-parse", "--short", "HEAD")
    assert found["device"] == "cpu" and torch.__version__.startswith(found["torch"]) and found["processor"]
    assert found["threads"] == str(torch.get_num_threads())
    script.write_text("print()")
    assert describe_machine("cpu", tmp_path)["commit"].endswith("-dirty")
