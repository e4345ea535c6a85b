"""The paper and the code: its numbers exist, are cited where they belong, and lead to objects that exist."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_docs import resolve

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "paper-to-code.md"
FOLDERS = ("depthaware", "integrations", "examples", "docs")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md"))
TEXTS = [*FILES, ROOT / "README.md", ROOT / "CHANGELOG.md"]

# What the paper has: sections, and the section of each equation.
SECTIONS = {"1", "2", "3", "3.1", "3.2", "3.3", "3.4", "3.5", "4", "4.1", "4.2", "4.3", "4.4", "5"}
SECTIONS |= {"A", "A.1", "A.2", "B", "B.1", "B.2", "B.3"}
EQUATIONS = dict.fromkeys(range(1, 6), "3.2") | dict.fromkeys(range(6, 9), "3.3") | {9: "3.4", 10: "3.5"}
EQUATIONS |= dict.fromkeys(range(11, 14), "A.1")
FIGURES = {str(number) for number in range(1, 15)} | {f"11{letter}" for letter in "abcdefgh"}
TABLES = {"1", "2", "3", "4"}
KNOWN = {"section": SECTIONS, "eq.": {str(number) for number in EQUATIONS}, "figure": FIGURES, "table": TABLES}

_KIND = r"(sections?|eq\.|[Ff]igures?|[Tt]ables?)"
_NUMBER = r"(?:[AB]\.)?\d+(?:\.\d+)?[a-h]?"
_CITED = re.compile(rf"{_KIND} ({_NUMBER}(?:(?:,? and |, (?=[\dAB])| to ){_NUMBER})*)")


def cited(text: str) -> Iterator[tuple[str, str]]:
    """Kind and number of everything that a text cites, ranges and lists spelled out."""
    for kind, numbers in _CITED.findall(" ".join(text.split())):
        for part in re.split(r",? and |, ", numbers):
            first, *last = part.split(" to ")
            found = map(str, range(int(first), int(last[0]) + 1)) if last else [first]
            yield from ((kind.lower().removesuffix("s"), number) for number in found)


def references(text: str) -> Iterator[str]:
    """The parts of a text that cite the paper: from its name to the next source or the end of the sentence's clause."""
    for match in re.finditer(r"Hong et al\.?,? (?:CVPR )?2022,(.*?)(?=;|\n\s*\n|\"\"\"|\)|$)", text, re.DOTALL):
        yield match[1]


def test_lists_and_ranges_are_read():
    found = list(cited("section 3.4, eq. 9, figures 4 to 6 and 11c; eq. 10 to 13 and sections 3.5, 4.2 and A.1"))
    numbers = [("section", "3.4"), ("eq.", "9"), *(("figure", number) for number in ("4", "5", "6", "11c"))]
    numbers += [("eq.", str(number)) for number in range(10, 14)]
    assert found == numbers + [("section", number) for number in ("3.5", "4.2", "A.1")]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_cited_of_the_paper_exists_and_equations_stand_in_their_section(path):
    for reference in references(path.read_text(encoding="utf-8")):
        found = list(cited(reference))
        for kind, number in found:
            assert number in KNOWN[kind], f"{path.name}: the paper has no {kind} {number}: {reference}"
        sections = {number for kind, number in found if kind == "section"}
        for kind, number in found:
            if kind == "eq." and sections:
                assert EQUATIONS[int(number)] in sections, (
                    f"{path.name}: eq. {number} is not in {sections}: {reference}"
                )


@pytest.mark.parametrize("path", [p for p in TEXTS if p.suffix == ".md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_speak_of_equations_and_tables_that_exist(path):
    """In prose the paper's numbers stand without its name; sections of other papers follow their names."""
    text = re.sub(r"FOMM \d\.\d", "", path.read_text(encoding="utf-8"))
    for kind, number in cited(text):
        assert number in KNOWN[kind], f"{path.name}: the paper has no {kind} {number}"


def docstring_references(path: Path) -> Iterator[tuple[str, str]]:
    """Name and text of each `Reference:` block of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module):
            text = ast.get_docstring(node) or ""
            if "Reference:" in text:
                yield getattr(node, "name", path.stem), text.partition("Reference:")[2]


def test_every_reference_block_names_a_source_and_its_year():
    for path in (ROOT / "depthaware").rglob("*.py"):
        for name, text in docstring_references(path):
            assert re.search(r"[A-Z]\w+.* \d{4}", text), f"{path.name}: {name} cites nothing: {text}"


# The page.


def rows() -> list[tuple[str, str, str]]:
    """First cell, object and file of each row that has them."""
    found = re.findall(
        r"^\| ([^|]+) \| [^|]+ \| \[`(depthaware[\w.]+)`\]\[[\w.]+\] \| (\S+) \| \S", PAGE.read_text(), re.M
    )
    assert len(found) == len(re.findall(r"^\| (?:eq\.|figure|Table) \d", PAGE.read_text(), re.M))
    return found


def test_the_page_has_a_row_for_every_equation_network_figure_and_table():
    wanted = [f"eq. {number}" for number in EQUATIONS]
    wanted += [f"figure {number}" for number in sorted(FIGURES, key=lambda x: (not x[-1].isalpha(), len(x), x))]
    assert [row[0] for row in rows()] == wanted + [f"Table {number}" for number in sorted(TABLES)]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_names_an_object_and_the_file_that_it_is_in(row):
    thing: Any = resolve(row[1])
    source = inspect.getsourcefile(inspect.unwrap(thing))  # no decorator
    assert source and Path(source) == ROOT / row[2], f"{row[0]}: {row[1]} is in {source}"


@pytest.mark.parametrize("row", [row for row in rows() if row[0].startswith("eq.")], ids=lambda row: row[0])
def test_the_object_of_an_equation_cites_it(row):
    _, text = next(
        (name, text) for name, text in docstring_references(ROOT / row[2]) if name == row[1].rpartition(".")[2]
    )
    numbers = [number for reference in references(text) for kind, number in cited(reference) if kind == "eq."]
    assert row[0].removeprefix("eq. ") in numbers


def test_the_defaults_are_the_values_that_the_paper_states():
    """Section 4.2: 15 key points, weights 10, 1, 10, 10; after eq. 5 and 13: 0.8 and 0.2."""
    losses = importlib.import_module("depthaware.losses")

    def default(thing: Any, name: str) -> Any:
        return inspect.signature(thing).parameters[name].default

    names = ("perceptual", "adversarial", "equivariance", "keypoint_distance")
    assert [default(losses.DaGANLoss, name) for name in names] == [10, 1, 10, 10]
    assert default(losses.photometric_error, "alpha") == default(losses.self_supervised_depth_loss, "alpha") == 0.8
    assert default(losses.keypoint_distance_loss, "threshold") == 0.2
    assert default(resolve("depthaware.DaGAN"), "num_keypoints") == 15
    assert default(losses.DaGANLoss, "scales") == (1, 1 / 2, 1 / 4, 1 / 8)  # 256, 128, 64 and 32 of 256
