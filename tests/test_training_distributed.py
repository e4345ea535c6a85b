"""Two processes train like one, and end together."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import train_dagan
import train_depth
from recipes import SIZE, fresh, in_processes, shrink, stats, train, weights, write_data
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from depthaware import DaGAN, SelfSupDepthNet
from depthaware.losses import DaGANLoss, DaGANTerms
from depthaware.training import options
from depthaware.training.stage1 import DepthStep
from depthaware.training.stage2 import NETWORKS
from depthaware.training.synced_norm import synchronize_batch_norms

EXAMPLES = Path(train_dagan.__file__).parent


@pytest.fixture(autouse=True)
def small(monkeypatch):
    shrink(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "clips")


# Batch norm.


def network(momentum: float | None, affine: bool) -> nn.Module:
    """Two norms, one in the other's gradients."""
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(4, momentum=momentum, affine=affine) for _ in range(2)]
    return nn.Sequential(nn.Conv2d(3, 4, 3), norms[0], nn.ReLU(), nn.Conv2d(4, 4, 3), norms[1])


def forward_and_backward(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    out = net(x)
    (out * y).square().sum().backward()
    return [out.detach(), x.grad]


def same_as_the_whole_batch(momentum: float | None, affine: bool, scale: float) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    whole, shared = network(momentum, affine), network(momentum, affine)
    synchronize_batch_norms(shared)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        x = scale * (torch.randn(4, 3, 9, 8, generator=generator) + 3)
        y = torch.randn(4, 4, 5, 4, generator=generator)
        expected = forward_and_backward(whole, x, y)
        found = forward_and_backward(shared, *(part[2 * rank : 2 * rank + 2] for part in (x, y)))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b[2 * rank : 2 * rank + 2], rtol=1e-4, atol=1e-5)
    for parameter, other in zip(shared.parameters(), whole.parameters(), strict=True):
        dist.all_reduce(parameter.grad)
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-3 * scale)
    torch.testing.assert_close(shared.state_dict(), whole.state_dict(), rtol=1e-5, atol=1e-6)
    shared.eval(), whole.eval()
    torch.testing.assert_close(shared(x), whole(x))


@pytest.mark.parametrize("momentum, affine, scale", [(0.1, True, 1.0), (None, True, 1.0), (0.1, False, 100.0)])
def test_shared_batch_norms_are_those_of_the_whole_batch(momentum, affine, scale):
    assert in_processes(2, same_as_the_whole_batch, momentum, affine, scale) == [0, 0]


def test_no_batch_norm_of_the_recipes_is_left_out():
    norms = nn.modules.batchnorm._BatchNorm
    for net in (DaGAN(**NETWORKS["paper"].model), DepthStep()):
        assert {type(module) for module in net.modules() if isinstance(module, norms)} == {nn.BatchNorm2d}


# Whole runs. Adam divides a gradient by its own size, and so makes a whole step of what is nothing but rounding, as the
# gradient of a bias before a batch norm is. Plain gradient descent shows how alike the gradients are.


class Descent(torch.optim.SGD):
    def __init__(self, parameters: Any, **_: Any) -> None:
        super().__init__(parameters, lr=1.0)


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def distance(one: Path, other: Path, start: Path) -> float:
    """Distance of the ends of two runs, as a share of the way that they went."""
    ends = [weights(path) for path in (one, other, start)]
    names = [
        name for name in ends[0] if name.startswith(("/model/", "/discriminator/")) and not name.endswith(STATISTICS)
    ]
    a, b, begin = (torch.cat([end[name].flatten().double() for name in names]) for end in ends)
    return ((a - b).norm() / (b - begin).norm()).item()


LAW = dict(batch=4, images=8, clip=0.0, checkpoint_every=8)
NETWORK = {"pose": "network"}  # frames aligned under a depth that is still flat make more of rounding
RATE = {train_depth: {"learning_rate": 30.0}, train_dagan: {"learning_rate": 2e-3}}  # weights move by a hundredth
SHARED = {"reprojection", "equivariance", "keypoint_distance", "pyramid", "adversarial", "discriminator", "gradient"}


@pytest.fixture(scope="module")
def start(data, tmp_path_factory) -> dict[Any, Path]:
    """Of each recipe, a run that goes nowhere."""
    folder = tmp_path_factory.mktemp("start")
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink(monkeypatch)
        for recipe, changes in ((train_depth, NETWORK), (train_dagan, {})):
            train(recipe, data, folder / recipe.__name__, LAW | changes | {"learning_rate": 1e-30, "images": 4})
    return {recipe: folder / recipe.__name__ for recipe in RATE}


@pytest.mark.parametrize(
    "recipe, optimizer, changes, tolerance",
    [
        (train_depth, Descent, NETWORK | RATE[train_depth], 1e-3),
        (train_depth, torch.optim.Adam, NETWORK, 2e-2),
        (train_dagan, Descent, RATE[train_dagan], 1e-3),
        (train_dagan, torch.optim.Adam, {}, 2e-1),
    ],
    ids=["depth by descent", "depth by Adam", "dagan by descent", "dagan by Adam"],
)
def test_two_processes_are_one_with_the_same_batch(
    recipe, optimizer, changes, tolerance, data, start, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.optim, "Adam", optimizer)
    train(recipe, data, tmp_path / "one", LAW | changes)
    assert in_processes(2, train, recipe, data, tmp_path / "two", LAW | changes) == [0, 0]
    assert distance(tmp_path / "two", tmp_path / "one", start[recipe]) < tolerance
    for found, expected in zip(stats(tmp_path / "two"), stats(tmp_path / "one"), strict=True):
        for name in SHARED & found.keys():
            assert found[name] == pytest.approx(expected[name], rel=1e-3), name


@pytest.mark.parametrize(
    "recipe, world, changes", [(train_depth, 2, NETWORK), (train_dagan, 1, {})], ids=["depth", "dagan"]
)
def test_accumulating_is_one_batch_but_for_the_batch_norms(recipe, world, changes, data, start, tmp_path, monkeypatch):
    """With norms that ignore the batch it does not matter into how many parts it is cut."""
    build, law = recipe.build, LAW | changes | RATE[recipe]
    monkeypatch.setattr(recipe, "build", lambda options: build(options).eval())
    monkeypatch.setattr(torch.optim, "Adam", Descent)
    train(recipe, data, tmp_path / "one", law)
    assert in_processes(world, train, recipe, data, tmp_path / "parts", law | {"accumulate": 2}) == [0] * world
    assert distance(tmp_path / "parts", tmp_path / "one", start[recipe]) < 1e-3


# Under torchrun, whose agent is here without the time that its imports take.

TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # signals that the agent keeps to itself


def launch(recipe: Any, monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    """Run a recipe as ``torchrun --nproc-per-node 2 recipe flags`` does, with an agent that looks but once a second."""
    config = LaunchConfig(
        1,
        1,
        2,
        start_method="fork",
        max_restarts=0,
        monitor_interval=1,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
    )
    monkeypatch.setattr(sys, "argv", ["recipe", *flags])
    fresh()
    handlers = {number: signal.getsignal(number) for number in TAKEN}
    try:
        elastic_launch(config, options.run_recipe)(recipe.main, recipe.Options, "")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def flags(data: Path, output: Path) -> list[str]:
    chosen = {"data": data, "output": output, "depth": data.parent / "depth", "features": "none", "size": SIZE}
    chosen |= {"motion-size": 16, "batch": 2, "images": 4, "hold-out": 1, "threads": 1, "log-every": 2}
    return [f"--{name}={value}" for name, value in chosen.items()]


def fail_on(rank: int, monkeypatch: pytest.MonkeyPatch, value: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Let one process's key-point loss become another one in the second step."""
    original = DaGANLoss.forward

    def forward(self: DaGANLoss, *arguments: Any) -> DaGANTerms:
        terms = original(self, *arguments)
        if os.environ["RANK"] == str(rank) and next(calls, None) is None:
            terms = terms._replace(keypoint_distance=value(terms.keypoint_distance))
        return terms

    calls = iter(range(1))
    monkeypatch.setattr(DaGANLoss, "forward", forward)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_that_is_not_a_number_in_one_process_ends_both_with_one_line(data, tmp_path, monkeypatch, capfd, rank):
    fail_on(rank, monkeypatch, lambda term: term * float("nan"))
    with pytest.raises(ChildFailedError):
        launch(train_dagan, monkeypatch, *flags(data, tmp_path), "--checkpoint-every=2")
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: after 4 images the loss 'keypoint_distance' is nan: stopped, the last good weights")
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def test_an_error_in_one_process_ends_both_with_one_line(data, tmp_path, monkeypatch, capfd):
    def fail(term: torch.Tensor) -> torch.Tensor:
        raise ValueError("this clip is broken")

    fail_on(1, monkeypatch, fail)
    with pytest.raises(ChildFailedError):
        launch(train_dagan, monkeypatch, *flags(data, tmp_path))
    assert [line for line in capfd.readouterr().err.splitlines() if "error:" in line] == ["error: this clip is broken"]


def test_torchrun_from_the_shell(data, tmp_path):
    """Networks of the recipe's own size; what is said is said once, what is written is written once."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    SelfSupDepthNet("test_resnet", decoder_channels=(8, 16, 24, 32, 64)).save_pretrained(tmp_path)
    command = [*torchrun, EXAMPLES / "train_dagan.py", *flags(data, tmp_path / "run"), f"--depth={tmp_path}"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(line.startswith("3 clips of 3 persons") for line in lines) == 1
    assert [line.split()[1] for line in lines if "equivariance" in line] == ["2", "4"]
    assert lines[-1] == f"{tmp_path / 'run' / 'weights'}: the weights after 4 images"
    assert len(stats(tmp_path / "run")) == 3 and len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1
    DaGAN.from_pretrained(tmp_path / "run" / "weights")
