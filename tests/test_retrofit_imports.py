"""Import paths: `depthaware.retrofit` and `integrations` give the same, and a user's own package breaks nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import depthaware
import integrations.fomm
import integrations.tpsmm
from depthaware import retrofit

ROOT = Path(depthaware.__file__).parents[1]


@pytest.mark.parametrize(
    "family, alias", [(retrofit.fomm, integrations.fomm), (retrofit.tpsmm, integrations.tpsmm)], ids=["fomm", "tpsmm"]
)
def test_both_paths_give_the_same_objects(family, alias):
    assert {"retrofit", "load_retrofit", "save_retrofit", "keypoints", "Retrofitted"} <= set(family.__all__)
    for name in family.__all__:
        assert getattr(alias, name) is getattr(family, name), name


def test_public_names():
    """Checked in, so that a name is neither lost nor made public by accident."""
    assert retrofit.__all__ == [
        "NOTHING",
        "DepthChannel",
        "DepthPyramid",
        "Pair",
        "Plan",
        "Retrofitted",
        "Site",
        "SiteStatus",
        "Status",
        "check_bare",
        "depth_channels",
        "encoder_widths",
        "find_first_convolution",
        "find_submodule",
        "fomm",
        "load_additions",
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
