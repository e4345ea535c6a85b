"""export.json: what it says is checked before any file that it names is opened."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..pretrained.options import Kind, check_keys, check_options, list_of, mapping, one_of, short, text, whole
from ..pretrained.small_files import read_object

FACTS = "export.json"
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
GRAPHS = ("source_encoder", "detector", "driver")
_FACTS = {"format": one_of(*SUFFIXES), "size": whole(1, 8192), "config": mapping, "graphs": mapping}


def read_facts(folder: Path) -> dict[str, Any]:
    """Read export.json.

    Raises:
        ValueError: if there is none, or it does not have the form that `depthaware export` writes.
    """
    path = folder / FACTS
    try:
        facts = read_object(path, "the facts of an export")
    except OSError as error:
        raise ValueError(f"{folder}: expected a folder made by `depthaware export`, found no {FACTS}") from error
    try:
        check_keys(facts, _FACTS)
        check_options(facts["config"])
        check_keys(facts["graphs"], dict.fromkeys(GRAPHS, mapping))
        for name in GRAPHS:
            _check_graph(name, facts["graphs"][name], SUFFIXES[facts["format"]])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return facts


def _check_graph(name: str, graph: Mapping[str, Any], suffix: str) -> None:
    """A file beside export.json, of the declared format, and the names of its inputs and outputs."""
    file = Kind(
        f"the bare name of a {suffix} file",
        lambda value: (
            text.accepts(value) and value.endswith(suffix) and value != suffix and not set(value) & set("/\\:\0")
        ),
    )
    try:
        check_keys(graph, {"file": file, "inputs": list_of(text, 100), "outputs": list_of(text, 100)})
        for side in ("inputs", "outputs"):
            if len(set(graph[side])) < max(len(graph[side]), 1):
                raise ValueError(f"{side}: expected one name or more, each once, got {short(graph[side])}")
    except ValueError as error:
        raise ValueError(f"graphs: {name}: {error}") from error
