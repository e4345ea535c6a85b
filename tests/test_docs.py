"""The docs are true: every code block runs, every link and name leads somewhere.

Blocks of a page share a namespace and a folder. ``python`` runs; the shape in a comment after ``.shape`` is checked.
``bash`` runs where it says ``depthaware``; flags of the recipes in examples/ are looked up; the tools in `TOOLS` are
taken on trust. ``console`` runs its ``$`` lines and compares what they print. Other languages must be in `INERT`.
"""

import ast
import dataclasses
import importlib
import re
import shlex
import shutil
import textwrap
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import test_checkpoint as checkpoints
import torch
import yaml

import depthaware
from depthaware import DaGAN, data, extractors, faces, inference, losses, metrics, retrofit, training
from depthaware.cli.main import main
from depthaware.media.video import read_video, write_video

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "examples" / "README.md", *DOCS]
MEDIA = Path(depthaware.__file__).parent / "assets"
TOOLS = {"npm", "pip", "pytest", "ruff", "mypy", "mkdocs"}
INERT = {"text", "diff", "bibtex", "toml"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


class Block(NamedTuple):
    """A fenced piece of code, the line that it starts on, and its language."""

    language: str
    line: int
    code: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fences = re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    found = [Block(m[2], text.count("\n", 0, m.start()) + 2, textwrap.dedent(m[3])) for m in fences]
    assert text.count("```") == 2 * len(found), f"{page}: a fence that is not closed"
    return found


# What the pages presuppose; made for the page that speaks of it.


def portrait(path: Path) -> None:
    shutil.copy(MEDIA / "portrait.png", path)


def clip(path: Path) -> None:
    video = read_video(MEDIA / "driving.mp4")
    with write_video(path, video.size, video.rate, video.time_base) as write:
        for frame in islice(video, 6):
            write(frame)


def frames(path: Path) -> None:
    path.mkdir()
    for index in range(3):
        portrait(path / f"{index:04d}.png")


def weights(path: Path) -> None:
    DaGAN.from_pretrained("dagan-tiny").save_pretrained(path)


def dagan(path: Path) -> None:
    net = checkpoints.model(depth_encoder="resnet18.tv_in1k")
    torch.save(checkpoints.content(net), path)
    checkpoints.write_depth(path.with_name("depth18"), net.depth_net)


def fomm(path: Path) -> None:
    torch.save(checkpoints.content(checkpoints.model(**checkpoints.FOMM)), path)


def two_clips(path: Path) -> None:
    path.mkdir()
    video = read_video(MEDIA / "driving.mp4")
    for name, start in (("a", 0), ("b", 60)):
        with write_video(path / f"{name}.mp4", video.size, video.rate, video.time_base) as write:
            for frame in islice(video, start, start + 3):
                write(frame)


def photos(path: Path) -> None:
    path.mkdir()
    for name in "ab":
        portrait(path / f"{name}.png")


def pairs(path: Path) -> None:
    path.write_text("source_video,source_frame,driving_video,driving_frame\na,0,a,2\na,0,b.mp4,2\n")


FILES: dict[str, Callable[[Path], None]] = {
    "me.png": portrait,
    "you.png": portrait,
    "clip.mp4": clip,
    "frames": frames,
    "photos": photos,
    "videos": two_clips,
    "my-clips": two_clips,
    "pairs.csv": pairs,
    "my-weights": weights,
    "runs/dagan/weights": weights,
    "dagan.pth.tar": dagan,
    "fomm.pth.tar": fomm,
}


@pytest.fixture(scope="session")
def short_media(tmp_path_factory) -> Path:
    """The bundled media, of which a test need not see six seconds; .ci/run does."""
    folder = tmp_path_factory.mktemp("media")
    portrait(folder / "portrait.png")
    clip(folder / "driving.mp4")
    return folder


class Hub:
    """In the place of the Hub's client, which test_hub.py tests."""

    commit_url = "https://huggingface.co/user/model/commit/0"

    def create_repo(self, repo_id: str, **options: Any) -> "Hub":
        self.repo_id = repo_id
        return self

    def upload_folder(self, **options: Any) -> "Hub":
        return self


@each_page
def test_every_code_block_runs(page, tmp_path, short_media, monkeypatch, capsys):
    found = blocks(page)
    text = "\n".join(block.code for block in found)
    for name in filter(text.__contains__, FILES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        FILES[name](tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr("depthaware.cli.animate._MEDIA", short_media)
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **options: "my-weights")
    torch.manual_seed(0)
    namespace: dict[str, Any] = {"__name__": "docs"}
    for block in found:
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language == "python":
            run_python(block, where, namespace)
        elif block.language == "bash":
            for command in re.split(r" && |\n", block.code.strip().replace("\\\n", "")):
                run_command(shlex.split(command), where, capsys)
        elif block.language == "console":
            run_console(block, where, capsys)
        else:
            assert block.language in INERT, f"{where}: {block.language!r} is run by nobody"


def run_python(block: Block, where: str, namespace: dict[str, Any]) -> None:
    exec(compile("\n" * (block.line - 1) + block.code, where, "exec"), namespace)
    for expression, shape in re.findall(r"^(\S+\.shape)  # (\(.*\))$", block.code.replace(", ", ","), re.MULTILINE):
        seen = tuple(eval(expression, namespace))
        assert seen == ast.literal_eval(shape), f"{where}: {expression} is {seen}, the page says {shape}"


def run_command(command: list[str], where: str, capsys) -> None:
    if command[0] == "depthaware":
        code = main(command[1:])
        output = capsys.readouterr()
        assert code == 0, f"{where}: {shlex.join(command)}\n{output.out}{output.err}"
    elif command[0] in ("python", "torchrun"):
        command = command[[word.startswith("examples/") for word in command].index(True) - 1 :]
        known = options(ROOT / command[1])
        unknown = {word for word in command if word.startswith("--")} - known
        assert not unknown, f"{where}: {command[1]} knows {known}, not {unknown}"
    else:
        assert command[0] in TOOLS, f"{where}: {shlex.join(command)} is run by nobody"


def options(recipe: Path) -> set[str]:
    """The flags of a recipe in examples/, which are the fields of its `Options`."""
    known = getattr(importlib.import_module(recipe.stem), "Options", None)
    return {"--" + field.name.replace("_", "-") for field in dataclasses.fields(known)} if known else set()


def run_console(block: Block, where: str, capsys) -> None:
    for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        capsys.readouterr()
        assert command.startswith("depthaware "), f"{where}: {command} is run by nobody"
        code = main(shlex.split(command)[1:])
        output = capsys.readouterr()
        assert output.out + output.err == expected, f"{where}: {command}"
        assert code == (2 if "depthaware: error:" in expected else 0), f"{where}: {command}"


def test_the_readme_has_the_two_commands():
    commands = [line for block in blocks(ROOT / "README.md") for line in block.code.splitlines()]
    assert "pip install -e . && depthaware animate" in commands
    assert 'pip install -e ".[test]" && pytest' in commands


def anchors(page: Path) -> set[str]:
    """The anchors that headings become."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@each_page
def test_every_relative_link_resolves(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.relative_to(ROOT)}: {link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{page.relative_to(ROOT)}: {link} has no such heading"


@each_page
def test_every_named_file_and_test_exists(page):
    text = page.read_text(encoding="utf-8")
    for name, test in re.findall(r"\b((?:tests|examples|docs|depthaware)/[\w./-]*\w)(?:::(\w+))?", text):
        assert (ROOT / name).exists(), f"{page.relative_to(ROOT)}: there is no {name}"
        assert not test or f"def {test}(" in (ROOT / name).read_text(), (
            f"{page.relative_to(ROOT)}: {name} has no {test}"
        )


def test_every_page_is_in_the_navigation():
    def leaves(nav: Any) -> list[str]:
        return [nav] if isinstance(nav, str) else [leaf for entry in nav for leaf in leaves(*entry.values())]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(leaves(nav)) == sorted(str(page.relative_to(ROOT / "docs")) for page in DOCS)


def test_files_import_only_from_the_floors_below():
    rows = re.findall(r"^\| \d \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    order = [name.rstrip("/") for row in rows for name in re.findall(r"`([\w/]+)`", row)]
    package = Path(depthaware.__file__).parent
    files = {path: path.relative_to(package).parts[0].removesuffix(".py") for path in package.rglob("*.py")}
    del files[package / "__init__.py"], files[package / "__main__.py"]
    assert set(order) == set(files.values())
    for path, name in files.items():
        for other in sorted(relative_imports(path) - {name}):
            assert order.index(other) < order.index(name), f"{name} imports {other}, from which the table keeps it"


def relative_imports(path: Path) -> set[str]:
    """First parts of the modules of this package that a file imports."""
    depth = len(path.relative_to(Path(depthaware.__file__).parent).parts)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    above = [node for node in nodes if node.level == depth]
    return {
        name.split(".")[0]
        for node in above
        for name in ([node.module] if node.module else [a.name for a in node.names])
    } - {"submodules"}


def documented() -> dict[str, Any]:
    """Objects on the API pages, by dotted name."""
    text = "\n".join(page.read_text() for page in DOCS)
    return {name: resolve(name) for name in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)}


def resolve(name: str) -> Any:
    """The module, class or function of that dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        parent, _, last = name.rpartition(".")
        return getattr(resolve(parent), last)


def test_every_public_name_is_on_an_api_page():
    shown = list(documented().values())
    packages = (depthaware, data, data.prepare, extractors, faces, inference, losses, metrics, retrofit, training)
    public = {f"{package.__name__}.{name}": getattr(package, name) for package in packages for name in package.__all__}
    objects = {name: thing for name, thing in public.items() if not isinstance(thing, ModuleType)}
    assert not [name for name, thing in objects.items() if not any(thing is other for other in shown)]


def test_every_cross_reference_names_something():
    code = [path.read_text() for path in Path(depthaware.__file__).parent.rglob("*.py")]
    for text in (*code, *(page.read_text() for page in DOCS)):
        for name in re.findall(r"\]\[(depthaware[\w.]*)\]", text):
            resolve(name)
