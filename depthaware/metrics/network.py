"""Metrics that need a network: LPIPS for pairs of images, FID for sets of images."""

import math
from collections.abc import Callable
from copy import deepcopy
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._optional import missing, require
from .inputs import images, one_of


class LPIPS:
    """Learned perceptual distance (LPIPS): weighted squared differences of a network's normalized features.

    Lower is better. No unit; at least 0, and 0 for identical images.
    Note: AlexNet (the authors' choice for evaluation), VGG and SqueezeNet give three different scales. Values are
    comparable only with those of the same network.

    The network is built by torchmetrics at the first call; torchvision downloads its ImageNet weights.

    Args:
        net: "alex", "vgg" or "squeeze".
        network: replaces it; a callable (prediction, target) -> (B,), for images (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: if the net is unknown.
        OSError: if the weights cannot be downloaded.
        ImportError: if torchmetrics is missing.

    Reference:
        Zhang et al. 2018, eq. 1.
    """

    def __init__(
        self,
        net: Literal["alex", "vgg", "squeeze"] = "alex",
        *,
        network: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        one_of("net", net, ("alex", "vgg", "squeeze"))
        self.net = net
        self._given = network

    @torch.no_grad()
    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the distance of each pair.

        Args:
            prediction: (B, 3, H, W) in [0, 1].
            target: likewise.

        Returns:
            (B,)
        """
        prediction, target = images(prediction, target)
        if self._given is not None:
            return self._given(prediction, target).reshape(len(prediction))
        network = self._network.to(prediction.device)
        return network(prediction.float(), target.float(), normalize=True).reshape(len(prediction))

    @cached_property
    def _network(self) -> nn.Module:
        weights, options = f"ImageNet weights of {self.net!r}", dict(net_type=self.net, normalize=True)
        return _torchmetrics("lpip", "LearnedPerceptualImagePatchSimilarity", weights, options).net


class FID:
    """Fréchet distance (FID) of Gaussians fitted to a network's features of all predictions and of all targets.

    |m - n|² + trace(C + D - 2 (C D)^½) with means m, n and covariances C, D. Lower is better. In the unit of the
    features, squared; at least 0, and 0 for equal sets up to rounding.
    Note: it decreases with the number of images, and with fewer images than features (2048) the covariances are not of
    full rank: report the number, and compare at equal numbers only. It compares sets, not pairs: shuffled frames and
    wrong expressions do not change it. It cannot be averaged over videos.

    The network is built by torchmetrics at the first update; torch-fidelity downloads its weights.

    Args:
        network: replaces Inception-v3; a module from images (B, 3, H, W) in [0, 1] to features (B, F).

    Reference:
        Heusel et al. 2017.
    """

    def __init__(self, *, network: nn.Module | None = None) -> None:
        self.skipped = 0
        self._given = network
        self._metric: Any = None

    @torch.no_grad()
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add images; pairs with a value that is not finite are left out and counted in `skipped`.

        Args:
            prediction: (B, 3, H, W) in [0, 1].
            target: likewise.

        Raises:
            ValueError: if the shapes differ.
            OSError: if the weights cannot be downloaded.
            ImportError: if torchmetrics is missing.
        """
        prediction, target = images(prediction, target)
        finite = (prediction + target).isfinite().all((1, 2, 3))
        self.skipped += int((~finite).sum())
        if not finite.any():
            return
        prediction, target = prediction[finite], target[finite]
        if self._metric is None:
            options: dict[str, Any] = dict(normalize=True, input_img_size=tuple(prediction.shape[1:]))
            if self._given is not None:
                options["feature"] = self._given
            self._metric = _torchmetrics("fid", "FrechetInceptionDistance", "FID weights of Inception-v3", options)
            self._metric.to(prediction.device)
        self._metric.update(prediction, real=False)
        self._metric.update(target, real=True)

    def merge(self, other: "FID") -> None:
        """Add the images of another FID, for example of another process."""
        self.skipped += other.skipped
        if self._metric is None:
            self._metric = deepcopy(other._metric)
        elif other._metric is not None:
            self._metric.merge_state(other._metric)

    def compute(self) -> float:
        """Compute the distance of all images; NaN if there are fewer than two."""
        if self._metric is None or self._metric.fake_features_num_samples < 2:
            return math.nan
        return max(self._metric.compute().item(), 0.0)  # rounding can make it negative


def _torchmetrics(module: str, name: str, weights: str, options: dict[str, Any]) -> Any:
    library = require(f"torchmetrics.image.{module}", "eval")
    try:
        return getattr(library, name)(**options)
    except ModuleNotFoundError as error:
        raise missing("torchmetrics[image]", "eval") from error
    except OSError as error:
        raise OSError(f"could not download the {weights}, which {name} needs ({error}); pass network=") from error
