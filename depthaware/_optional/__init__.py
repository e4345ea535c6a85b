"""Packages of the extras, imported where they are used; a folder, since the top level holds the paper's files alone."""

from importlib import import_module
from typing import Any


def require(module: str, extra: str = "", *, pip: str = "") -> Any:
    """Import a module of an optional package.

    Args:
        module: name, with dots.
        extra: of depthaware that brings the package ("eval").
        pip: arguments of `pip install` for packages that no extra brings.

    Raises:
        ImportError: one line with the command that installs the package.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise missing((error.name or module).partition(".")[0], extra, pip=pip) from error
    except ImportError as error:
        raise ImportError(f"{module} is installed but cannot be imported: {error}", name=module) from error


def missing(package: str, extra: str = "", *, pip: str = "") -> ImportError:
    """Make the error for a package that is not installed, with the command that installs it, see `require`."""
    command = pip or f'"depthaware[{extra}]"'
    return ImportError(f"{package} is not installed: pip install {command}", name=package)
