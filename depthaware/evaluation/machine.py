"""Description of the machine and the versions that a measurement was made with."""

import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def describe_machine(device: str | torch.device, folder: str | Path) -> dict[str, str]:
    """Describe what a measurement was made with.

    Args:
        device: of the computation.
        folder: of the script that measures; its git checkout gives the commit.

    Returns:
        commit (empty outside of git, ``-dirty`` where files were changed), processor, device ("cpu" or the name of the
        GPU), threads, and the versions of python, depthaware, torch and av.
    """
    device = torch.device(device)
    return {
        "commit": _commit(Path(folder)),
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        **{package: version(package) for package in ("depthaware", "torch", "av")},
    }


def _commit(folder: Path) -> str:
    if shutil.which("git") is None:
        return ""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder).stdout.strip()


def _processor() -> str:
    """Name of the CPU; on Linux the one in /proc, which `platform` does not read."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
