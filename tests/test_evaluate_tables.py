"""The paper's tables, the protocols behind them, and what is refused before PyTorch is loaded."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from clips import draw_image, make_clip
from evaluation_clips import load_stand_in, quick_reports, run, write_clips

import depthaware
from depthaware import extractors
from depthaware.cli import evaluate_check as command
from depthaware.cli.main import main
from depthaware.evaluation import ABLATIONS, BUNDLED, METRICS, ClipReader, list_clips, random_pairs
from depthaware.evaluation.paper_tables import read_table
from depthaware.evaluation.protocols import check_is_video
from depthaware.media.image import write_image
from depthaware.media.video import read_video

ASSETS = Path(depthaware.__file__).parent / "assets"
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_clips(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    monkeypatch.setattr(extractors, "load", load_stand_in)
    monkeypatch.setattr(command, "find_spec", lambda name: name)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quick_reports():
        yield


def test_the_printed_tables_are_those_of_the_paper():
    """Lines of the paper's text, typed off."""
    lines = {number: read_table(number).lines({}) for number in (1, 2, 3, 4)}
    assert lines[1][0] == "| | | CSIM ↑ | SSIM ↑ | PSNR ↑ | PRMSE ↓ | AUCON ↑ |"
    assert lines[1][2] == "| X2Face | printed | 0.689 | 0.719 | 22.537 | 3.26 | 0.813 |"
    assert lines[1][-1] == "| DaGAN | printed | 0.899 | 0.804 | 31.220 | 1.22 | 0.939 |"
    assert (lines[2][0], lines[2][-1]) == (
        "| | | L1 ↓ | AKD ↓ | AED ↓ |",
        "| DaGAN | printed | 0.036 | 1.279 | 0.117 |",
    )
    assert "| OSFV | printed | 0.791 | 3.15 | 0.805 |" in lines[3]
    assert lines[4][-1] == "| FOMM w/ FDN+CAM | printed | 0.716 | 2.28 | 0.865 |"
    assert [len(rows) - 2 for rows in lines.values()] == [7, 5, 7, 9]
    assert set(lines[3]) & set(lines[4]) >= {"| DaGAN | printed | 0.723 | 2.33 | 0.873 |"}
    with pytest.raises(ValueError, match=r"^table: expected 1 to 4, got 5$"):
        read_table(5)


def test_the_docs_show_the_printed_tables_and_their_notes():
    page = (ROOT / "docs" / "metrics.md").read_text()
    for number in (1, 2, 3, 4):
        table = read_table(number)
        assert all(" | ".join(cells(line)) in page for line in table.lines({}) if "printed" in line), number
        assert all(note in page for note in table.notes)


def cells(line: str) -> list[str]:
    name, _, *values = (cell.strip() for cell in line.strip("|").split("|"))
    return [name, *values]


@pytest.mark.parametrize("number, protocol", [(1, "same-identity"), (2, "random-same-identity"), (4, "cross-identity")])
def test_a_table_has_printed_and_measured_rows_in_one_order(data, tiny_weights, tmp_path, number, protocol):
    given = ["--weights", tiny_weights, "--data", str(data), "--output", str(tmp_path / "r"), "--pairs", "9"]
    assert main(["evaluate", *given, "--table", str(number), "--protocol", protocol]) == 0
    report = json.loads((tmp_path / "r/report.json").read_text())
    found = json.loads((tmp_path / "r/table.json").read_text())
    source = json.loads((ASSETS / "tables.json").read_text())[str(number)]
    assert (found["columns"], found["printed"]) == (source["columns"], source["rows"])
    means = {(score["prediction"], score["metric"].upper()): score["mean"] for score in report["scores"]}
    assert list(found["measured"])[:3] == ["tiny", "copy", "perfect"]
    for row in ("copy", "perfect"):
        assert found["measured"][row] == {column: means[row, column] for column in source["columns"]}
    assert found["measured_with"]["csim"] == report["csim"] == "source"
    assert (report["drawn"], report["total"]) == (9, 9) if protocol.startswith("random") else "drawn" not in report
    text = (tmp_path / "r/table.md").read_text()
    assert text.index("| DaGAN | printed |") < text.index("| tiny | measured |") < text.index("| perfect | measured |")
    assert ("| strangers | measured |" in text) is ("CSIM" in source["columns"]) and str(tmp_path) not in text


def test_a_column_can_be_left_empty(data, tiny_weights, tmp_path):
    options = ["--table", "1", "--metrics", "ssim,psnr", "--limit", "2"]
    assert run(data, tiny_weights, tmp_path / "r", *options) == 0
    measured = json.loads((tmp_path / "r/table.json").read_text())["measured"]
    assert measured["copy"]["CSIM"] is None and measured["perfect"]["PSNR"] == "inf" and "strangers" not in measured


def test_what_a_table_lacks_is_said_before_work(data, tiny_weights, tmp_path, capsys, monkeypatch):
    def complaint(*options: str) -> str:
        given = ["--weights", tiny_weights, "--data", str(data), "--output", str(tmp_path / "r")]
        assert main(["evaluate", *given, *options]) == 2 and not (tmp_path / "r").exists()
        return capsys.readouterr().err.removeprefix("depthaware: error: ").strip()

    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "feat" else name)
    for table, rest in ((1, "csim,ssim,psnr,prmse"), (3, "csim,prmse"), (4, "csim,prmse")):
        assert complaint("--table", str(table)) == (
            f"--table {table}: AUCON needs action-units by py-feat, which is not installed: pip install "
            f'"py-feat>=2" (its weights are downloaded at first use); --metrics {rest} leaves its column empty'
        )
    assert complaint("--table", "1", "--metrics", "aucon").endswith(" (its weights are downloaded at first use)")
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert complaint("--table", "2") == (
        '--table 2: AKD needs landmarks by dlib, which is not installed: pip install "depthaware[eval]"; '
        "--metrics l1,aed leaves its column empty"
    )
    assert complaint("--table", "3", "--protocol", "same-identity") == (
        "--table 3: is of cross-identity reenactment, expected such a protocol, got same-identity"
    )
    columns = complaint("--table", "3", "--metrics", "l1")
    assert columns == "--table 3: expected some of its columns csim,prmse,aucon in --metrics, got l1"
    monkeypatch.setattr(command, "find_spec", lambda name: name)
    lacking = complaint("--table", "3")
    assert lacking == f"data {str(data)!r}: has none of the 5 videos of celebv-cross-identity, such as Donald_Trump"
    assert complaint("--table", "5").startswith("argument --table: invalid choice: ")
    assert complaint().startswith("--protocol: expected same-identity, cross-identity, random-same-identity, ")
    assert complaint("--protocol", "same").endswith("celebv-cross-identity or a CSV file of pairs, got 'same'")
    assert complaint("--protocol", "same-identity", "--identity", "x").startswith("argument --identity: invalid choice")


def test_names_are_refused_before_pytorch_is_loaded(data):
    code = (
        "import sys; from depthaware.cli.main import main\n"
        f"code = main(['evaluate', '--data', {str(data)!r}, '--protocol', 'TYPO', '--output', 'r'])\n"
        "assert code == 2 and not {'torch', 'av', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_what_the_command_knows_without_pytorch_is_true(monkeypatch):
    monkeypatch.undo()
    assert tuple(BUNDLED) == command.PUBLISHED
    assert {kind: extractors.available(kind) for kind in command.EXTRACTORS} == command.EXTRACTORS
    assert {name: METRICS[name].kind for name in command.KINDS} == command.KINDS
    assert tuple(ABLATIONS) == command.ABLATIONS


@pytest.mark.parametrize("across", [False, True])
def test_random_pairs_are_those_asked_for_and_the_same_again(data, across):
    reader, clips = ClipReader(data, 64), list_clips(data)
    persons, lengths = dict(clips), {clip.name: reader.count(clip.name) for clip in clips}
    draws = [random_pairs(reader, clips, pairs=300, videos=3, cross_identity=across, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    for pairs, _, who in draws:
        assert len(pairs) == 300 and who == persons
        assert len({name for pair in pairs for name in (pair.source_video, pair.driving_video)}) == 3
        for pair in pairs:
            assert pair.source_frame < lengths[pair.source_video] and pair.driving_frame < lengths[pair.driving_video]
            assert (persons[pair.source_video] != persons[pair.driving_video]) is across
            assert across or (pair.has_truth and pair.source_frame != pair.driving_frame)
    frames = Counter((p.source_video, p.source_frame) for p in draws[0].pairs)
    assert set(frames) == {(name, i) for name in {p.source_video for p in draws[0].pairs} for i in range(lengths[name])}
    counts = Counter(p.source_video for p in draws[0].pairs)
    assert min(counts.values()) > 70  # of 100, if all videos are as likely
    for wrong in (dict(pairs=0), dict(videos=0)):
        with pytest.raises(ValueError, match="expected at least 1 pair of 1 video, got "):
            random_pairs(reader, clips, **wrong)
    with pytest.raises(ValueError, match="random pairs: expected videos of at least 2 persons, all are of 'person0'"):
        random_pairs(reader, [clips[0], clips[3]], cross_identity=True)


def test_portraits_are_no_clip(tmp_path, tiny_weights, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "portraits").mkdir()
    for i in range(12):
        cells = rng.integers(0, 256, (4, 4, 3), "u1")
        write_image(tmp_path / f"portraits/{i}.png", cells.repeat(24, 0).repeat(24, 1))
    for protocol in command.PROTOCOLS:
        assert run(tmp_path / "portraits", tiny_weights, tmp_path / "r", protocol=protocol) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and "portraits are no clip" in line and "from one to the next, expected" in line
    write_image(tmp_path / "portraits/1.png", cells.repeat(24, 0).repeat(12, 1))
    with pytest.raises(ValueError, match=r"has images of 96 x 96 and 48 x 96 pixels, expected frames of one video$"):
        check_is_video(tmp_path / "portraits")


def test_frames_of_a_video_are_a_clip_even_at_one_a_second(tmp_path):
    for i, frame in enumerate(islice(read_video(ASSETS / "driving.mp4"), 0, None, 25)):
        (tmp_path / "frames").mkdir(exist_ok=True)
        write_image(tmp_path / f"frames/{i}.png", frame.image)
    check_is_video(tmp_path / "frames")
    check_is_video(make_clip(tmp_path / "a.mp4", 2, (64, 64), images=[draw_image(i, (64, 64)) for i in range(2)]))
    (tmp_path / "frames/2.png").write_bytes(b"damaged")
    check_is_video(tmp_path / "frames")  # its pair is reported
