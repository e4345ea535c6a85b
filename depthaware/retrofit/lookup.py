"""Search for the sites of depth in a network, by names and shapes of its submodules."""

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


def find_submodule(model: nn.Module, name: str, owner: str) -> str:
    """Find the path of the only submodule with a name, at any depth.

    Args:
        model: network.
        name: last part of the path.
        owner: name of the network, for the error.

    Raises:
        ValueError: if there is none or more than one.
    """
    paths = [path for path, _ in model.named_modules() if path.rpartition(".")[2] == name]
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
    convs = [(path, conv) for path, conv in model.named_modules() if isinstance(conv, nn.Conv2d)]
    if not convs or convs[0][1].in_channels != channels:
        found = f"{convs[0][0]!r} with {convs[0][1].in_channels}" if convs else "none"
        raise ValueError(f"{owner}: expected a first convolution with {channels} input channels, found {found}")
    return convs[0][0]


def encoder_widths(generator: nn.Module) -> list[int]:
    """Channels of an appearance encoder (`first`, and `down_blocks` beside it) at 1, 1/2, 1/4, ... of the image size.

    Raises:
        ValueError: if there is no such encoder.
    """
    path = find_submodule(generator, "first", "generator")
    parent = generator.get_submodule(path.rpartition(".")[0])
    blocks = getattr(parent, "down_blocks", None)
    if not isinstance(blocks, (nn.ModuleList, nn.Sequential)) or not len(blocks):
        found = ", ".join(name for name, _ in parent.named_children())
        raise ValueError(f"generator: expected 'down_blocks' beside {path!r}, found {found}")
    convs = []
    for block in (parent.get_submodule("first"), *blocks):
        convs += [conv for conv in block.modules() if isinstance(conv, nn.Conv2d)][:1]
    return [conv.out_channels for conv in convs]
