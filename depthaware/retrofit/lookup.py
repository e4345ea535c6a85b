"""Finding the places for depth in a network, by the names and shapes of its submodules."""

from torch import nn

from .mechanism import Retrofitted


def check_bare(**networks: nn.Module) -> None:
    """Refuse what is around a network already."""
    for name, network in networks.items():
        if isinstance(network, Retrofitted):
            raise ValueError(f"{name}: expected a network without depth, found a retrofitted one; remove() undoes that")
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            raise ValueError(f"{name}: expected the network itself, found {type(network).__name__}; pass its .module")


def find(model: nn.Module, name: str, owner: str) -> str:
    """Path of the only submodule called `name`, at whatever depth."""
    paths = [path for path, _ in model.named_modules() if path.rpartition(".")[2] == name]
    if len(paths) != 1:
        found = ", ".join(paths or (child for child, _ in model.named_children())) or "nothing"
        raise ValueError(f"{owner}: looked for one submodule called {name!r}, found {found}")
    return paths[0]


def first_convolution(model: nn.Module, channels: int, owner: str) -> str:
    """Path of the first convolution, which must take `channels`."""
    convs = [(path, conv) for path, conv in model.named_modules() if isinstance(conv, nn.Conv2d)]
    if not convs or convs[0][1].in_channels != channels:
        found = f"{convs[0][0]!r}, which takes {convs[0][1].in_channels}" if convs else "none"
        raise ValueError(f"{owner}: looked for a first convolution that takes {channels} channels, found {found}")
    return convs[0][0]


def encoder_widths(generator: nn.Module) -> list[int]:
    """Channels of the appearance encoder (`first`, and `down_blocks` beside it) at 1, 1/2, ... of the image size."""
    path = find(generator, "first", "generator")
    parent = generator.get_submodule(path.rpartition(".")[0])
    blocks = getattr(parent, "down_blocks", None)
    if not isinstance(blocks, (nn.ModuleList, nn.Sequential)) or not len(blocks):
        found = ", ".join(name for name, _ in parent.named_children())
        raise ValueError(f"generator: looked for 'down_blocks' beside {path!r}, found {found}")
    convs = []
    for block in (parent.get_submodule("first"), *blocks):
        convs += [conv for conv in block.modules() if isinstance(conv, nn.Conv2d)][:1]
    return [conv.out_channels for conv in convs]
