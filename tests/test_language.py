"""Docstrings begin like those of the field: with an imperative or a noun phrase, not with a question word."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("depthaware", "integrations", "examples", "tests")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
QUESTION_WORDS = {"What", "How", "Who", "Where", "Whether", "When", "Which"}


def first_lines(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line number and first docstring line of the module and of every class and function in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield getattr(node, "lineno", 1), docstring.splitlines()[0]


def questions(source: str) -> list[str]:
    return [
        f"{number}: {line}"
        for number, line in first_lines(ast.parse(source))
        if line.split()[0].strip("?.,:") in QUESTION_WORDS
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_docstring_begins_with_a_question_word(path):
    assert questions(path.read_text(encoding="utf-8")) == []


def test_question_words_are_found_in_modules_classes_and_functions():
    source = (
        '"""Where it is."""\nclass A:\n    """What it is.\n\n    More.\n    """\n    def f(self):\n        """How?"""\n'
    )
    allowed = "def g():\n    '''Whatever it is; what it does.\n\n    When?\n    '''\n"
    assert questions(source + allowed) == ["1: Where it is.", "2: What it is.", "7: How?"]
