"""Search for the sites of depth in a network, by names and shapes of its submodules."""

from collections.abc import Mapping

from torch import nn

from .mechanism import Retrofitted


def check_bare(**networks: nn.Module) -> None:
    """Refuse networks that are already retrofitted or wrapped for parallel execution.

    Args:
        networks: by the names for the error.

    Raises:
        ValueError: for the first such network.
    """
    for name, network in networks.items():
        if isinstance(network, Retrofitted):
            raise ValueError(f"{name}: expected a network without depth, found a retrofitted one; remove() undoes that")
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            raise ValueError(f"{name}: expected the network itself, found {type(network).__name__}; pass its .module")


def check_depth_net(depth_net: nn.Module) -> None:
    """Refuse what is no depth network, as far as that shows before a call."""
    found = type(depth_net).__name__
    if isinstance(getattr(depth_net, "depth_net", None), nn.Module):
        raise ValueError(f"depth_net: expected a depth network, found {found}; pass its .depth_net")
    if not isinstance(depth_net, nn.Module):
        raise ValueError(f"depth_net: expected a module image -> disparity (B, 1, h, w), found {found}")


def names_in(model: nn.Module, name: str) -> list[str]:
    """Find the paths of all submodules with a name."""
    return [path for path, _ in model.named_modules() if path.rpartition(".")[2] == name]


def find_target(model: nn.Module, name: str, owner: str, targets: Mapping[str, str]) -> str:
    """Find the path of a submodule, which is the one that `targets` gives, or the only one with the name.

    Raises:
        ValueError: if there is no such submodule, or several have the name.
    """
    if name not in targets:
        return find_submodule(model, name, owner)
    if targets[name] not in dict(model.named_modules()):
        found = ", ".join(child for child, _ in model.named_children()) or "nothing"
        raise ValueError(f"targets: {name}: expected the path of a part of {owner}, got {targets[name]!r}, has {found}")
    return targets[name]


def find_submodule(model: nn.Module, name: str, owner: str) -> str:
    """Find the path of the submodule with a name: a direct part of the network, or else the only one at any depth.

    Args:
        model: network.
        name: last part of the path.
        owner: name of the network, for the error.

    Raises:
        ValueError: if there is none or more than one.
    """
    paths = [name] if name in dict(model.named_children()) else names_in(model, name)
    if len(paths) != 1:
        found = ", ".join(paths or (child for child, _ in model.named_children())) or "nothing"
        raise ValueError(f"{owner}: expected one submodule named {name!r}, found {found}")
    return paths[0]


def find_first_convolution(model: nn.Module, channels: int, owner: str) -> str:
    """Find the path of the first convolution, which must have `channels` input channels.

    Args:
        model: network.
        channels: number of input channels.
        owner: name of the network, for the error.

    Raises:
        ValueError: if there is none, or its input has another number of channels.
    """
    kinds = (nn.Conv2d, nn.Conv3d)
    convs = [(path, conv) for path, conv in model.named_modules() if isinstance(conv, kinds)]
    if not convs or convs[0][1].in_channels != channels or isinstance(convs[0][1], nn.Conv3d):
        found = f"{convs[0][0]!r}, a {type(convs[0][1]).__name__} with {convs[0][1].in_channels}" if convs else "none"
        raise ValueError(f"{owner}: expected a first convolution with {channels} input channels, found {found}")
    return convs[0][0]


def encoder_widths(
    generator: nn.Module, owner: str = "generator", targets: Mapping[str, str] | None = None
) -> list[int]:
    """Channels of an appearance encoder (`first`, and `down_blocks` beside it) at 1, 1/2, 1/4, ... of the image size.

    Args:
        generator: network with the encoder.
        owner: name of the network, for the error.
        targets: paths of both if they are called otherwise.

    Raises:
        ValueError: if there is no such encoder.
    """
    targets = targets or {}
    path = find_target(generator, "first", owner, targets)
    parent = generator.get_submodule(path.rpartition(".")[0])
    blocks = getattr(parent, "down_blocks", None)
    if "down_blocks" in targets:
        blocks = generator.get_submodule(find_target(generator, "down_blocks", owner, targets))
    if not isinstance(blocks, (nn.ModuleList, nn.Sequential)) or not len(blocks):
        found = ", ".join(name for name, _ in parent.named_children())
        raise ValueError(f"{owner}: expected 'down_blocks' beside {path!r}, found {found}")
    convs = []
    for block in (generator.get_submodule(path), *blocks):
        convs += [conv for conv in block.modules() if isinstance(conv, nn.Conv2d)][:1]
    return [conv.out_channels for conv in convs]
