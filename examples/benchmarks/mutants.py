"""Seeded mutants of files, and calls in forked processes, which import nothing again, of which the ends are counted."""

import math
import os
import random
import re
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from depthaware import DaGAN

LIMIT_S, LIMIT_MB = 10, 1000
_HANGS_S = 4 * LIMIT_S  # of waiting, on a machine that may be busy
_MORE_MEMORY = 4 << 30
SMALL: dict[str, Any] = dict(
    image_size=64, num_keypoints=3, depth_encoder="test_resnet", depth_channels=[4, 4, 8, 8, 8],
    detector_block_expansion=4, motion_block_expansion=4, hourglass_max_features=16, num_hourglass_blocks=2,
    generator_block_expansion=4, generator_max_features=16, num_bottleneck_blocks=1,
)  # fmt: skip
_VALUES = (None, True, -1, 0, 1, 2, 7, 10**9, 2**64, 1e308, 0.3, "", "x", "../x", "/etc/passwd", "hf-hub:a/b")


def small_weights(folder: Path, **options: Any) -> Path:
    """Save random weights of 64 pixels, which take milliseconds."""
    torch.manual_seed(0)
    DaGAN(**SMALL | options).save_pretrained(folder)
    return folder


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, insert, repeat or overwrite; the beginning, where headers are, most often."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = min(int(rng.expovariate(1 / max(len(changed) / 8, 1))), max(len(changed) - 1, 0))
        length = rng.choice([1, 4, 8, 100])
        kind = rng.randrange(5)
        if kind == 0:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            changed[at : at + length] = rng.choice([b"\0", b"\xff"]) * length
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length] * rng.choice([1, 50])
        else:
            del changed[at + 1 :]
    return bytes(changed)


def change_json(value: Any, rng: random.Random) -> Any:
    """Replace, remove or add one value, at any depth."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return rng.choice([*_VALUES, [], {}, [[[]]]])
    key: Any = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    changed = value.copy()
    if rng.random() < 0.1:
        del changed[key]
    elif isinstance(value, dict) and rng.random() < 0.1:
        changed[rng.choice(["class", "pretrained", "family", "x"])] = rng.choice(_VALUES)
    else:
        changed[key] = change_json(value[key], rng)
    return changed


class End(NamedTuple):
    """The end of a call: "exit 2" or "signal 9"; CPU seconds; peak memory, the imports included; stderr, stdout."""

    how: str
    seconds: float
    megabytes: float
    said: str


def start(call: Callable[[], int], output: Path) -> int:
    """Call in a forked process, the first of a session of its own; returns its id. What it prints goes to a file."""
    if pid := os.fork():
        return pid
    os.setsid()
    with open(output, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    code = 1
    try:
        code = call()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def survivors(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, *_, belongs = path.read_text().rpartition(")")[2].split()[:4]
            if state != "Z" and int(belongs) == session:
                found.append(int(path.parent.name))
    return found


def forked(call: Callable[[], int]) -> End:
    """Call in a forked process, with limits, and wait for its end."""
    with tempfile.NamedTemporaryFile() as output:
        pid = start(lambda: _limited(call), Path(output.name))
        _, status, usage = os.wait4(pid, 0)
        said = output.read().decode(errors="backslashreplace")
    for left in survivors(pid):
        os.kill(left, signal.SIGKILL)
        said += f"\nleft running: {left}"
    how = f"exit {os.WEXITSTATUS(status)}" if os.WIFEXITED(status) else f"signal {os.WTERMSIG(status)}"
    return End(how, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said)


def _limited(call: Callable[[], int]) -> int:
    signal.alarm(_HANGS_S)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + _MORE_MEMORY,) * 2)
    return call()


def complaint(end: End) -> str:
    """Say what is wrong with an end; nothing if it is a result, or a refusal in one line, within the limits."""
    lines = end.said.splitlines()
    if end.how not in ("exit 0", "exit 2"):
        return f"{end.how}: {lines[-1] if lines else ''}"
    if end.seconds > LIMIT_S:
        return f"{end.seconds:.0f} s"
    if end.how == "exit 2" and end.megabytes > LIMIT_MB:
        return f"{end.megabytes:.0f} MB"
    if end.how == "exit 2" and sum(line.startswith("depthaware: error: ") for line in lines) != 1:
        return f"expected one line of error, found {end.said[:300]!r}"
    if found := re.search("Traceback|left running.*", end.said):
        return found[0]
    return ""


class Tally:
    """Counts of the ends of one kind of files."""

    HEADER = f"{'kind':<14} mutants  exit 0  exit 2    bad  slowest s  refused, MB  accepted, MB"

    def __init__(self, kind: str) -> None:
        self.kind, self.ends, self.seconds = kind, list[End](), 0.0
        self.bad = 0

    def add(self, end: End, wrong: str) -> None:
        """Count an end, of which `wrong` says what is wrong with it, if anything."""
        self.ends.append(end)
        self.bad += bool(wrong)

    def __str__(self) -> str:
        refused, accepted = ([end for end in self.ends if end.how == how] for how in ("exit 2", "exit 0"))
        peaks = [max((end.megabytes for end in ends), default=math.nan) for ends in (refused, accepted)]
        slowest = max((end.seconds for end in self.ends), default=0)
        counts = f"{len(self.ends):>7}  {len(accepted):>6}  {len(refused):>6}  {self.bad:>5}"
        return f"{self.kind:<14} {counts}  {slowest:>9.1f}  {peaks[0]:>11.0f}  {peaks[1]:>12.0f}"
