"""Checkpoints made to do harm, in bounded time and memory; and many threads that read good ones."""

import pickle
import re
import resource
import time
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import FOMM, content, model

from depthaware.dagan import DaGAN
from depthaware.pretrained.checkpoint import load


class Call:
    """Pickled as the call of a function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def _zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)


def _with(**tensors: Any) -> Callable[[Path], Any]:
    """Writes a good checkpoint with other tensors in its generator."""

    def write(path: Path) -> None:
        checkpoint = content(model(**FOMM))
        checkpoint["generator"] |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
        torch.save(checkpoint, path)

    return write


def _blocks(count: int) -> Callable[[Path], Any]:
    return lambda path: _with(**{f"bottleneck.r{i}.x": torch.ones(1) for i in range(count)})(path)


def _deep(path: Path) -> None:
    """200 000 tuples in each other, as the key of a dict."""
    pickled = b"\x80\x02}(" + b")" + b"\x85" * 200_000 + b"K\x01u."
    _zip(path, {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little"})


def _calling(function: bytes, argument: bytes) -> Callable[[Path], Any]:
    """Writes a pickle that calls a function which PyTorch takes for safe."""
    pickled = b"\x80\x02}X\x01\x00\x00\x00a" + b"c" + function.replace(b" ", b"\n") + b"\n" + argument + b"s."
    return lambda path: _zip(path, {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little"})


def _text(letters: str) -> bytes:
    return b"X" + len(letters.encode()).to_bytes(4, "little") + letters.encode()


BYTEARRAY = b"c__builtin__\nbytearray\n"
BILLION = b"J" + (10**9).to_bytes(4, "little")
UNSAFE = "not a PyTorch checkpoint that is safe to read"
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a zip bomb": (
        lambda p: _zip(p, {"data.pkl": bytes(200 << 20), "version": b"3"}, zipfile.ZIP_DEFLATED),
        "is compressed, expected a PyTorch checkpoint",
    ),
    "a large pickle": (
        lambda p: _zip(p, {"data.pkl": bytes(9 << 20), "version": b"3"}),
        r"its data.pkl has \d+ bytes, expected at most",
    ),
    "very many files": (
        lambda p: _zip(p, {"data.pkl": b"", **{f"{i:0300}": b"" for i in range(26_000)}}),
        r"list of contents has \d+ bytes, expected at most",
    ),
    "11 000 blocks": (_blocks(11_000), "generator: expected tensors by name, at most 10000, found 11"),
    "1 000 blocks": (_blocks(1000), "num_bottleneck_blocks: expected a whole number from 0 to 256, got 100"),
    "a deep key": (_deep, "not a PyTorch checkpoint that is safe to read"),
    "a large tensor of one number": (
        _with(final__weight=torch.ones(1).expand(2**20, 2**20, 7, 7)),
        "has tensors that repeat or share their values",
    ),
    "a sparse tensor": (_with(final__bias=torch.ones(3).to_sparse()), "final.bias is sparse_coo, expected a dense"),
    "no values": (_with(final__bias=torch.ones(3, device="meta")), "final.bias is on the device meta"),
    "a quantized tensor": (
        lambda p: _with(final__bias=torch.quantize_per_tensor(torch.ones(3), 1, 0, torch.qint8))(p),
        "final.bias is quantized",
    ),
    "a bytearray of 1 GB": (_calling(b"__builtin__ bytearray", BILLION + b"\x85R"), UNSAFE),
    "a new bytearray of 1 GB": (_calling(b"__builtin__ bytearray", BILLION + b"\x85\x81"), UNSAFE),
    "a bytearray of 1 GB by its index": (
        _calling(b"__builtin__ bytearray", b"q\x01h\x010h\x01" + BILLION + b"\x85R\x86"),
        UNSAFE,
    ),
    "a bytearray of 1 GB from a list": (_calling(b"__builtin__ bytearray", b"]" + BILLION + b"aR"), UNSAFE),
    "a bytearray of 1 GB by another call": (
        _calling(b"torch._tensor _rebuild_from_type_v2", b"(" + BYTEARRAY * 2 + BILLION + b"\x85}tR"),
        UNSAFE,
    ),
    "a storage of 1 GB": (_calling(b"torch.storage UntypedStorage", BILLION + b"\x85R"), UNSAFE),
    "a tensor of 4 GB": (_calling(b"torch FloatTensor", BILLION + b"\x85R"), UNSAFE),
    "a codec that takes hours": (
        _calling(b"_codecs encode", _text("".join(map(chr, range(0x3400, 0x9E00))) * 5) + _text("punycode") + b"\x86R"),
        UNSAFE,
    ),
    "a scalar of 2 GB": (
        lambda p: torch.save({"loss": Call(np.float64(0).__reduce__()[0], np.dtype("V2000000000"), b"")}, p),
        "not a PyTorch checkpoint that is safe to read",
    ),
}


@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning", "ignore:.*quantize:DeprecationWarning")
@pytest.mark.parametrize("kind", BAD)
def test_what_is_made_to_do_harm_is_one_line_early(kind, tmp_path, recwarn):
    write, expected = BAD[kind]
    write(tmp_path / "x.pth.tar")
    recwarn.clear()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ValueError) as caught:
        DaGAN.from_checkpoint(tmp_path / "x.pth.tar")
    line = str(caught.value)
    assert re.search(expected, line) and "\n" not in line and len(line) < 500, line
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB
    assert not recwarn or kind in ("a sparse tensor", "a quantized tensor")  # of which PyTorch itself warns


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_data_of_all_kinds_is_read(tmp_path, zipped):
    data = {
        "numbers": {"loss": np.float64(3), "epoch": np.int64(4), "complex": 1j},
        "bytes": [b"ab\xff", bytearray(b"xyz"), {1, 2}],
        "counts": Counter("aab"),
        "ordered": OrderedDict(a=1),
        "torch": (torch.float16, torch.device("cpu"), torch.Size([1])),
    }
    tensors = {"w": torch.ones(2), "p": torch.nn.Parameter(torch.ones(1)), "named": torch.ones(3)}
    tensors["named"].origin = "a tensor with attributes"  # of which PyTorch writes another call
    torch.save({**data, **tensors}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    found = load(tmp_path / "x.pth")
    assert {key: found[key] for key in data} == data and all(torch.equal(found[key], tensors[key]) for key in tensors)


def test_many_threads_read_and_leave_the_process_as_it_was(tmp_path):
    for number in range(4):
        torch.save({"loss": np.float64(number), "w": torch.ones(3)}, tmp_path / f"{number}.pth")
    (tmp_path / "bad.pth").write_bytes(b"\x80\x02" + pickle.dumps(Call(print, "no"), 2)[2:])
    filters, allowed = list(warnings.filters), torch.serialization.get_safe_globals()

    def read(number: int) -> float:
        if number % 5 == 4:
            with pytest.raises(ValueError, match=r"bad.pth: not a PyTorch checkpoint"):
                load(tmp_path / "bad.pth")
            return number
        return load(tmp_path / f"{number % 5}.pth")["loss"] + 5 * (number // 5)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(200))) == list(range(200))
    assert warnings.filters == filters and torch.serialization.get_safe_globals() == allowed
