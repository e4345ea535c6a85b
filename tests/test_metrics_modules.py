"""The functions as torchmetrics: batches, order and processes do not matter, and others' formulas agree."""

import pickle
from functools import reduce
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_package import modules_after
from torchmetrics import Metric, MetricCollection
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from depthaware import metrics

SHAPES = {
    "akd": (68, 2),
    "aed": (16,),
    "csim": (16,),
    "prmse": (3,),
    "aucon": (5,),
    "jitter": (68, 2),
    **dict.fromkeys(("l1", "psnr", "ssim", "ms_ssim"), (3, 16, 16)),
    **dict.fromkeys(("abs_rel", "depth_rmse", "delta", "ordinal_accuracy", "spearman"), (1, 8, 8)),
}
WRAPPED = {getattr(metrics, name).function.__name__: getattr(metrics, name) for name in metrics.MODULES[1:]}


def samples(name: str, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (3, 176, 176) if name == "ms_ssim" else SHAPES[name]
    pair = torch.rand(2, count, *shape, generator=torch.Generator().manual_seed(seed)) * 0.9 + 0.1
    return (pair.round() if name == "aucon" else pair).unbind(0)


def test_there_is_one_for_every_function_of_pairs():
    assert WRAPPED.keys() == SHAPES.keys()
    assert all(issubclass(wrapper, Metric) for wrapper in WRAPPED.values())


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(sorted(SHAPES.keys() - {"ms_ssim", "jitter"})),
    cuts=st.lists(st.integers(0, 6), max_size=3),
    lost=st.sets(st.integers(0, 5), max_size=6),
)
def test_the_mean_is_that_of_the_function_however_the_batches_are_cut(name, cuts, lost):
    prediction, target = samples(name, 6)
    if name in ("akd", "aed", "csim", "prmse", "aucon"):
        prediction[list(lost)] = torch.nan
    values = getattr(metrics, name)(prediction, target).double()
    kept = [value for value in values.tolist() if value == value]
    metric, edges = WRAPPED[name](), [0, *sorted(cuts), 6]
    for start, end in pairwise(edges):
        metric.update(prediction[start:end], target[start:end])
    expected = sum(kept) / len(kept) if kept else torch.nan
    assert metric.compute().item() == pytest.approx(expected, rel=1e-9, nan_ok=True)
    assert (metric.count, metric.skipped) == (len(kept), 6 - len(kept))


@pytest.mark.parametrize("name", SHAPES)
def test_processes_are_reduced_to_the_whole_and_reset_forgets(name):
    parts, whole = [WRAPPED[name]() for _ in range(2)], WRAPPED[name]()
    for seed, part in enumerate(parts):
        part.update(*samples(name, 4, seed))
        whole.update(*samples(name, 4, seed))
    reduced = WRAPPED[name](
        compute_with_cache=False
    )  # as torchmetrics does it: gather each state of all processes, and reduce it
    for state, how in reduced._reductions.items():
        setattr(reduced, state, how(torch.stack([getattr(part, state) for part in parts])))
    assert reduced._reductions.keys() == {"total", "count", "skipped"}
    reduced._update_count = 2
    assert reduced.compute() == whole.compute()
    whole.reset()
    whole.update(*samples(name, 4, 1))
    assert whole.compute() == parts[1].compute()


def test_psnr_and_ssim_are_those_of_torchmetrics():
    """It averages SSIM over windows across the mirrored border too, so its map is compared without the border."""
    psnr = PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean")
    ssim = StructuralSimilarityIndexMeasure(data_range=1.0, sigma=1.5, return_full_image=True)
    ours = MetricCollection({"psnr": metrics.PSNRMetric(), "ssim": metrics.SSIMMetric()})
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    for seed in range(3):
        noise = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
        prediction, target = 0.7 * ramp + 0.3 * noise, 0.9 * ramp + 0.1 * noise
        for metric in (psnr, ssim, ours):
            metric.update(prediction, target)
    found = {name: value.item() for name, value in ours.compute().items()}
    assert found["psnr"] == pytest.approx(psnr.compute().item(), rel=1e-5)
    assert found["ssim"] == pytest.approx(ssim.compute()[1][..., 5:-5, 5:-5].mean().item(), abs=1e-4)


def test_options_go_to_the_function_or_to_torchmetrics():
    prediction, target = samples("akd", 3)
    metric = metrics.AKDMetric(form="euclidean", sync_on_compute=False)
    metric.update(prediction, target)
    expected = metrics.akd(prediction, target, form="euclidean").double().mean()
    assert metric.compute().item() == pytest.approx(expected.item()) and metric.sync_on_compute is False
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `forms`"):
        metrics.AKDMetric(forms="euclidean")
    mask = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    mask[..., :4] = True
    depth = samples("abs_rel", 3)
    masked = metrics.AbsRelMetric(scale=False)
    masked.update(*depth, mask)
    assert masked.compute().item() == pytest.approx(metrics.abs_rel(*depth, mask, scale=False).mean().item())


def test_it_returns_the_batch_when_called_and_survives_pickling():
    metric = metrics.L1Metric()
    batches = [samples("l1", 2, seed) for seed in (0, 1)]
    called = [metric(*batch).item() for batch in batches]
    assert called == pytest.approx([metrics.l1(*batch).mean().item() for batch in batches])
    assert pickle.loads(pickle.dumps(metric)).compute().item() == pytest.approx(reduce(float.__add__, called) / 2)


def test_torchmetrics_is_loaded_by_its_users_alone():
    assert "torchmetrics" not in modules_after("from depthaware.metrics import *")
    assert set(metrics.MODULES) <= set(dir(metrics)) and not hasattr(metrics, "NoneSuchMetric")


def test_every_one_is_on_the_api_page():
    page = (Path(__file__).parents[1] / "docs" / "api" / "metrics.md").read_text()
    assert [name for name in metrics.MODULES if f"::: depthaware.metrics.modules.{name}\n" not in page] == []
