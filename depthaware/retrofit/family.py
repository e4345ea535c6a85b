"""Declaration of a family of generators: by which names its networks have the parts where depth enters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..attention import CrossModalAttention
from ..keypoints import Keypoints
from .additions import DepthPyramid, depth_channels, image_resizing
from .entries import check_call, check_entries
from .lookup import check_bare, check_depth_net, encoder_widths, find_first_convolution, find_target, names_in
from .mechanism import Retrofitted
from .plan import NOTHING, Plan, Site
from .storage import Pair, load_additions

_DECLARED: list["Family"] = []


@dataclass(frozen=True)
class Family:
    """A family of generators, which `retrofit` gives depth.

    Parts of networks are declared by their names, the last part of their path, wherever in the network they lie. A
    declared family is also considered when another one is given its networks, to name it in the error.

    Args:
        name: stored with the weights; for those of this library, the name of their module.
        title: name for messages.
        networks: names of detector and generator in the code of the family, for messages.
        heads: convolutions of the detector whose input contains the image, beside the first one.
        optional_heads: those of them that only some configurations have.
        volumes: heads in three dimensions, whose input is without the image.
        detector: further parts that every detector has, to recognize it.
        generator: further parts that every generator has, to recognize it.
        absent: parts that no generator has, to tell it from others.
        features: submodules of the generator whose input is the warped and occluded feature; the first that it has.
        blocks: if `features` names a list, the number of its blocks for each level of the decoder, deepest first; the
            warped feature is in the last channels of the input of the first of them.
        output: instead of `features`, entry of the generator's result that is the warped and occluded feature.
        widths: generator -> channels of the warped features at 1, 1/2, 1/4, ... of the image size; None for those of
            its encoder, see `encoder_widths`.
        keypoints: entries of the dictionaries of key points: positions, and Jacobians where there are any.
        arguments: of the generator that are such dictionaries.
    """

    name: str
    title: str
    networks: tuple[str, str] = ("kp_detector", "generator")
    heads: tuple[str, ...] = ()
    optional_heads: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    detector: tuple[str, ...] = ()
    generator: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    features: tuple[str, ...] = ("bottleneck",)
    blocks: int | None = None
    output: str | None = None
    widths: Callable[[nn.Module], list[int]] | None = None
    keypoints: tuple[str, ...] = ("value", "jacobian")
    arguments: tuple[str, ...] = ("kp_driving", "kp_source")

    def __post_init__(self) -> None:
        _DECLARED.append(self)

    def retrofit(
        self,
        kp_detector: nn.Module,
        generator: nn.Module,
        depth_net: nn.Module,
        *,
        fdn: bool = True,
        cam: bool = True,
        levels: int = 1,
        targets: Mapping[str, str] | None = None,
    ) -> Pair:
        """Add depth to trained networks; their outputs stay the same until the additions are trained.

        Args:
            kp_detector: network whose input is the image (B, 3, H, W).
            generator: network that warps features of the source image.
            depth_net: a trained `SelfSupDepthNet`, or any module image -> disparity (B, 1, h, w); it is frozen.
            fdn: give the detector depth beside the image (the paper's face depth network).
            cam: apply cross-modal attention to the warped and occluded feature, before it is decoded.
            levels: number of levels of the decoder with attention, deepest first, each of which costs 16 times the one
                before; 1 for families with a warped feature at one level alone.
            targets: paths of parts that a fork has renamed, by their names in the family; "image" is the convolution
                whose input is the image. With them nothing but these parts is required.

        Returns:
            Detector and generator, called as before, as a tuple with `save_pretrained` and the like. Their attributes
            include those of the given networks.

        Raises:
            ValueError: if the networks do not have the structure of the family's.

        Reference:
            Hong et al. 2022, section 4.4, Table 4.
        """
        check_bare(**dict(zip(self.networks, (kp_detector, generator), strict=True)))
        check_depth_net(depth_net)
        targets = dict(targets or {})
        if unknown := sorted(targets.keys() - self._parts()):
            raise ValueError(f"targets: expected names of {', '.join(sorted(self._parts()))}; got {unknown[0]!r}")
        try:
            paths = self.find_convolutions(kp_detector, targets) if fdn else []
            site = self.find_feature(generator, targets) if cam else None
        except ValueError as error:
            raise ValueError(f"{error}; {self._advice(kp_detector, generator)}") from error
        options = {"family": self.name, "fdn": fdn, "cam": cam}
        options |= {"levels": levels} if self.blocks else {}
        options |= {"targets": targets} if targets else {}
        plans = [
            Plan(image_resizing(kp_detector, targets), depth_channels(kp_detector, paths)) if fdn else NOTHING,
            NOTHING if site is None else self._attention(generator, site, levels, targets),
        ]
        halves = zip((kp_detector, generator), plans, strict=True)
        pair = Pair(*(Retrofitted(network, depth_net, plan, options) for network, plan in halves))
        check = partial(check_call, self.keypoints, self.arguments, pair.generator.arguments)
        pair.generator.register_forward_pre_hook(check, with_kwargs=True)
        return pair

    def load_retrofit(
        self,
        folder: str | Path,
        kp_detector: nn.Module,
        generator: nn.Module,
        depth_net: nn.Module,
        *,
        revision: str | None = None,
    ) -> Pair:
        """Retrofit networks with the weights that `save_retrofit` wrote.

        Args:
            folder: written by `save_retrofit`, or the id of a Hub repository.
            kp_detector: with the weights from before the retrofit; replaced if everything was saved.
            generator: likewise.
            depth_net: of the same architecture as the saved one, whose weights replace its own.
            revision: branch, tag or commit of the Hub repository.

        Returns:
            As of `retrofit`.

        Raises:
            ValueError: if the folder holds no retrofit of the family, or a network does not fit.
        """
        networks = (kp_detector, generator, depth_net)
        return load_additions(folder, self.retrofit, networks, self.name, revision=revision)

    def read_keypoints(self, kp: Mapping[str, Tensor]) -> Keypoints:
        """Convert a dictionary of key points in two dimensions to `Keypoints`, for losses and motion transfer.

        Raises:
            ValueError: if the dictionary has no positions, or they are not (B, N, 2).
        """
        check_entries(self.keypoints, kp)
        value = kp[self.keypoints[0]]
        if value.shape[-1] != 2:
            raise ValueError(f"key points: expected positions (B, N, 2), found {tuple(value.shape)}")
        return Keypoints(value, kp.get(self.keypoints[1]) if len(self.keypoints) > 1 else None)

    def find_convolutions(self, kp_detector: nn.Module, targets: Mapping[str, str]) -> list[str]:
        """Find the paths of the convolutions whose input contains the image.

        Raises:
            ValueError: if the detector is not of this family.
        """
        owner = self.networks[0]
        for part in () if targets else self.detector:
            find_target(kp_detector, part, owner, {})
        if "image" in targets:
            paths = [find_target(kp_detector, "image", owner, targets)]
        else:
            paths = [find_first_convolution(kp_detector, 3, owner)]
        optional = [head for head in self.optional_heads if head in targets or names_in(kp_detector, head)]
        paths += [find_target(kp_detector, head, owner, targets) for head in (*self.heads, *optional)]
        volumes = [find_target(kp_detector, head, owner, targets) for head in self.volumes]
        for path in (*paths, *volumes):
            kind = nn.Conv3d if path in volumes else nn.Conv2d
            if not isinstance(conv := kp_detector.get_submodule(path), kind):
                raise ValueError(f"{owner}: expected a {kind.__name__} {path!r}, found {type(conv).__name__}")
        return paths

    def find_feature(self, generator: nn.Module, targets: Mapping[str, str]) -> str:
        """Find the path of the submodule whose input is the warped feature, "" if that is in the generator's output.

        Raises:
            ValueError: if the generator is not of this family.
        """
        owner = self.networks[1]
        for part in () if targets else self.generator:
            find_target(generator, part, owner, {})
        for part in () if targets else self.absent:
            if names_in(generator, part):
                raise ValueError(f"{owner}: expected no part named {part!r}, found one")
        if self.output is not None:
            return ""
        names = [name for name in self.features if name in targets or names_in(generator, name)]
        path = find_target(generator, names[0] if names else self.features[0], owner, targets)
        if not list(generator.get_submodule(path).children()):
            raise ValueError(f"{owner}: expected parts in {path!r}, found none")
        return path

    def _parts(self) -> set[str]:
        return {
            "image",
            "down",
            "first",
            "down_blocks",
            *self.heads,
            *self.optional_heads,
            *self.volumes,
            *self.features,
        }

    def _attention(self, generator: nn.Module, path: str, levels: int, targets: Mapping[str, str]) -> Plan:
        widths = self.widths(generator) if self.widths else encoder_widths(generator, self.networks[1], targets)
        most = len(widths) - 1 if self.blocks else 1
        if not 1 <= levels <= most:
            raise ValueError(f"levels: expected {f'1 to {most}' if most > 1 else 1}, got {levels}")
        if self.blocks:
            sites = [
                Site(f"{path}.{self.blocks * i}", CrossModalAttention(width), "before", channels=width)
                for i, width in enumerate(widths[: -levels - 1 : -1])
            ]
        else:
            when: Any = "before" if self.output is None else "after"
            sites = [Site(path, CrossModalAttention(widths[-1]), when, entry=self.output)]
        return Plan(DepthPyramid(widths, levels=levels), sites)

    def _advice(self, kp_detector: nn.Module, generator: nn.Module) -> str:
        """Name the family that the networks look like, or else the way of a fork."""
        for other in _DECLARED:
            try:
                other.find_convolutions(kp_detector, {})
                other.find_feature(generator, {})
            except ValueError:
                continue
            if other is not self:
                return f"this looks like {other.title}: use integrations.{other.name}"
        return f"if this is a fork of {self.title}, give the paths of renamed parts as targets="
