"""Import paths: `depthaware.retrofit` and `integrations` give the same, and a user's own package breaks nothing."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import depthaware
from depthaware import retrofit

ROOT = Path(depthaware.__file__).parents[1]


FAMILIES = ["cosegmentation", "fomm", "liveportrait", "mcnet", "mraa", "osfv", "tpsmm"]


@pytest.mark.parametrize("name", FAMILIES)
def test_both_paths_give_the_same_objects(name):
    family, alias = getattr(retrofit, name), importlib.import_module(f"integrations.{name}")
    assert {"retrofit", "load_retrofit", "save_retrofit", "Retrofitted", name.upper()} <= set(family.__all__)
    assert getattr(family, name.upper()).name == name
    for name in family.__all__:
        assert getattr(alias, name) is getattr(family, name), name


def test_every_family_has_both_paths():
    assert [path.stem for path in sorted((ROOT / "integrations").glob("*.py"))] == FAMILIES


def test_public_names():
    """Checked in, so that a name is neither lost nor made public by accident."""
    assert retrofit.__all__ == [
        "NOTHING",
        "DepthChannel",
        "DepthPyramid",
        "Family",
        "Pair",
        "Plan",
        "Retrofitted",
        "Site",
        "SiteStatus",
        "Status",
        "check_bare",
        "cosegmentation",
        "depth_channels",
        "encoder_widths",
        "find_first_convolution",
        "find_submodule",
        "fomm",
        "liveportrait",
        "load_additions",
        "mcnet",
        "mraa",
        "osfv",
        "push_retrofit",
        "save_retrofit",
        "tpsmm",
        "upgrade_checkpoint",
    ]
    assert all(hasattr(retrofit, name) for name in retrofit.__all__)
    page = (ROOT / "docs/api/retrofit.md").read_text()
    assert not [name for name in retrofit.__all__ if f"depthaware.retrofit.{name}" not in page]


def test_a_users_own_integrations_package_breaks_nothing(tmp_path):
    (tmp_path / "integrations").mkdir()
    (tmp_path / "integrations/__init__.py").write_text("MINE = True\n")
    code = (
        "import integrations, depthaware.retrofit.fomm, depthaware.retrofit.tpsmm\n"
        "assert integrations.MINE and callable(depthaware.retrofit.fomm.retrofit)\n"
        "assert not [name for name in __import__('sys').modules if name.startswith('integrations.')]\n"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(ROOT)!r})\n{code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_library_never_imports_integrations():
    sources = {path: path.read_text() for path in (ROOT / "depthaware").rglob("*.py")}
    assert not [path for path, text in sources.items() if re.search(r"^\s*(from|import) integrations\b", text, re.M)]
    assert not list((ROOT / "integrations").rglob("__init__.py"))  # a namespace package, open to the user's modules
