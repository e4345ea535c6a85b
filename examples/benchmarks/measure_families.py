"""Depth for the code of each family of generators: what stays the same, what trains, what is saved, what still runs.

    python examples/benchmarks/measure_families.py FAMILY CHECKOUT [--json docs/retrofit.json]

CHECKOUT is one of the family's repository, whose released configuration is read; weights are random. Figures are the
largest differences between the networks with and without depth. With --json, they are entered into that file, and the
table of docs/retrofit.md is printed.
"""

import argparse
import copy
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from upstream import UPSTREAM, Nets, Upstream, prepare

import depthaware.retrofit
from depthaware import DaGAN


def tensors(x: Any) -> Iterator[Tensor]:
    if isinstance(x, (Tensor, np.ndarray)):
        yield torch.as_tensor(x)
    elif isinstance(x, (Mapping, list, tuple)):
        for value in x.values() if isinstance(x, Mapping) else x:
            yield from tensors(value)


def differ(a: Any, b: Any) -> float:
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    assert pairs and all(torch.isfinite(x).all() for pair in pairs for x in pair)
    return max((x.double() - y.double()).abs().max().item() for x, y in pairs)


def bare_state(nets: Nets) -> list[dict[str, Tensor]]:
    return [getattr(net, "model", net).state_dict() for net in nets.values()]


def with_depth(family: Any, upstream: Upstream) -> tuple[Any, Nets]:
    names = list(upstream.nets)
    pair = family.retrofit(*(upstream.nets[n] for n in names[:2]), DaGAN.from_pretrained("dagan-tiny").depth_net)
    return pair, {**upstream.nets, **dict(zip(names[:2], pair, strict=True))}


def measure(family: Any, upstream: Upstream) -> dict[str, float | str | None]:
    """All figures of one family, printed as they come."""
    original = copy.deepcopy(upstream.nets)
    pair, nets = with_depth(family, upstream)
    source, driving = torch.rand(2, 2, 3, upstream.size, upstream.size)
    result: dict[str, float | str | None] = {}

    def enter(name: str, figure: float | str | None) -> None:
        result[name] = figure
        print(f"{name}: {figure}", flush=True)

    runs = both(upstream, nets, original, source, driving, training=True)
    enter("train", differ(*runs))
    enter("statistics", differ(bare_state(nets), bare_state(original)))
    runs = both(upstream, nets, original, source, driving, training=False)
    enter("eval", differ(*runs))
    images = [torch.rand(upstream.size, upstream.size, 3).numpy() for _ in range(3)]
    one = source[:1], driving[:1]
    with torch.no_grad():
        enter("demo", differ(*(upstream.demo(each, images[0], images[1:]) for each in (nets, original))))
    for part in pair:
        part.model.requires_grad_(False)
    optimizer = torch.optim.Adam(pair.parameter_groups(lr=0, new_lr=0.02))
    for _ in range(3):
        improve(upstream, nets, *one)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        found = upstream.call(nets, *one)["prediction"]
        enter("effect", differ(found, runs[1]["prediction"][:1]))
        for parameter in (p for part in pair for p in part.additions.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
    improve(upstream, nets, *one)
    new = [p for part in pair for p in part.trainable_parameters("new")]
    enter("gradients", f"{sum(p.grad is not None and bool(p.grad.any()) for p in new)} of {len(new)}")
    enter("stored", store(family, upstream, pair, nets, *one))
    if upstream.losses:
        upstream = upstream._replace(nets=original)
        _, nets = with_depth(family, upstream._replace(nets=copy.deepcopy(original)))
        enter("step", step(upstream, nets, original, {"source": source, "driving": driving}))
    else:
        enter("step", None)
    return result


@torch.no_grad()
def both(
    upstream: Upstream, nets: Nets, original: Nets, source: Tensor, driving: Tensor, *, training: bool
) -> list[Any]:
    """Results with and without depth."""
    runs = []
    for each in (nets, original):
        for net in each.values():
            net.train(training)
        torch.manual_seed(2)
        runs.append(upstream.call(each, source, driving))
    return runs


def improve(upstream: Upstream, nets: Nets, source: Tensor, driving: Tensor) -> None:
    """Compute gradients of the error of a prediction."""
    prediction = upstream.call(nets, source, driving)["prediction"]
    target = nn.functional.interpolate(driving, size=prediction.shape[-2:])
    (prediction - target).square().mean().backward()


def step(upstream: Upstream, nets: Nets, original: Nets, batch: dict[str, Tensor]) -> float:
    """Largest difference of the losses of the family's own training model, and of its own weights after a step."""
    found = []
    assert upstream.losses is not None
    for each in (nets, original):
        for net in each.values():
            net.train()
        rate = [p for net in each.values() for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(rate, lr=2e-5, betas=(0.5, 0.999))
        losses = upstream.losses(each, batch)
        sum(value.mean() for value in losses.values()).backward()
        optimizer.step()
        found.append([losses, bare_state(each)])
    return differ(*found)


@torch.no_grad()
def store(family: Any, upstream: Upstream, pair: Any, nets: Nets, source: Tensor, driving: Tensor) -> float:
    expected, names = upstream.call(nets, source, driving), list(nets)
    depth_net = DaGAN.from_pretrained("dagan-tiny").depth_net
    with tempfile.TemporaryDirectory() as folder:
        pair.save_pretrained(folder, everything=True)
        others = [copy.deepcopy(part.remove()) for part in copy.deepcopy(pair)]
        for parameter in (p for net in others for p in net.parameters()):
            parameter.zero_()
        loaded = family.load_retrofit(folder, *others, depth_net)
    return differ(upstream.call({**nets, **dict(zip(names[:2], loaded, strict=True))}, source, driving), expected)


def rows(table: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Lines of the table in Markdown."""
    names = {"eval": "eval", "train": "train", "statistics": "statistics", "step": "training step", "demo": "demo loop"}
    names |= {"stored": "saved, loaded", "gradients": "new parameters with gradient", "effect": "effect of 3 steps"}
    yield " | ".join(["| code", "commit", *names.values()]) + " |"
    yield "|---" * (2 + len(names)) + "|"
    for code, figures in table.items():
        cells = [_cell(figures[name]) for name in names]
        yield " | ".join([f"| {code}", figures["commit"], *cells]) + " |"


def _cell(figure: float | str | None) -> str:
    return "none" if figure is None else figure if isinstance(figure, str) else f"{figure:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=UPSTREAM)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--json", type=Path, help="table to enter the figures into")
    parser.add_argument("--commit", help="of a checkout without .git")
    options = parser.parse_args()
    prepare(options.checkout)
    name, build = UPSTREAM[options.family]
    torch.manual_seed(0)
    git = ["git", "-C", str(options.checkout), "rev-parse", "HEAD"]
    commit = options.commit or subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    result = {"commit": commit[:8], **measure(getattr(depthaware.retrofit, name), build(options.checkout))}
    print(options.family, json.dumps(result))
    if options.json:
        table = json.loads(options.json.read_text()) if options.json.exists() else {}
        table = {name: {**table, options.family: result}[name] for name in UPSTREAM if name in {*table, options.family}}
        options.json.write_text(json.dumps(table, indent=1) + "\n")
        print("\n".join(rows(table)))


if __name__ == "__main__":
    main()
