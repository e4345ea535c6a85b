"""One line for a library that is not there."""


def missing(extractor: str, package: str, command: str) -> ValueError:
    """The error that names the package and the command that installs it."""
    return ValueError(f"extractor {extractor!r}: needs {package}, which is not installed: {command}")
