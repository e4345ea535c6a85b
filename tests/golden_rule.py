"""Deterministic weights by rule, so that parity can be checked without storing a checkpoint.

`state_dict(network, shapes, salt)` fills a state dict whose keys and shapes are listed in
`dagan_state_dict.json` / `fomm_state_dict.json`; the arrays in the .npz files beside this one are what
the reference networks computed from exactly these weights (float32, CPU, eval mode).
"""

import zlib

import numpy as np


def fill(name: str, shape: tuple[int, ...], salt: str) -> np.ndarray:
    """The value of one tensor; `name` is '<network>.<state-dict key>'."""
    z = np.random.default_rng(zlib.crc32(f"{salt}/{name}".encode())).standard_normal(shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_var":
        return (1 + 0.2 * np.abs(z)).astype(np.float32)
    if leaf in ("running_mean", "bias"):
        return (0.1 * z).astype(np.float32)
    if leaf == "gamma":  # the attention module's residual weight
        return (0.8 + 0.05 * z).astype(np.float32)
    if len(shape) == 1:  # scale of a norm layer
        return (1 + 0.1 * z).astype(np.float32)
    gain = 0.5 if name.startswith("depth_decoder") else 2.0
    return (z * np.sqrt(gain / np.prod(shape[1:]))).astype(np.float32)


def gaussian_kernel(channels: int, scale: float = 0.25) -> np.ndarray:
    """The fixed anti-aliasing kernel stored under '...down.weight' (C, 1, 13, 13 for scale 0.25)."""
    sigma = (1 / scale - 1) / 2
    size = 2 * round(sigma * 4) + 1
    g = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * sigma**2))
    k = np.outer(g, g)
    return np.tile((k / k.sum()).astype(np.float32), (channels, 1, 1, 1))


def state_dict(network: str, shapes: dict[str, list[int]], salt: str) -> dict[str, np.ndarray]:
    """All tensors of one network. `network` is the prefix that README.md lists for it."""
    sd = {}
    for key, shape in shapes.items():
        if key.endswith("down.weight") and shape[1:] == [1, 13, 13]:
            sd[key] = gaussian_kernel(shape[0])
        else:
            sd[key] = np.asarray(fill(f"{network}.{key}", tuple(shape), salt))
    for key in [k for k in sd if k.endswith("weight_u")]:  # spectral norm: 30 power iterations from ones
        base = key[:-2]
        w = sd[base + "_orig"].reshape(sd[base + "_orig"].shape[0], -1)
        v = np.ones(w.shape[1], np.float32)
        v /= np.linalg.norm(v)
        for _ in range(30):
            u = w @ v
            u /= np.linalg.norm(u)
            v = w.T @ u
            v /= np.linalg.norm(v)
        sd[key], sd[base + "_v"] = u.astype(np.float32), v.astype(np.float32)
    if network.endswith("kp_detector"):  # Jacobians around the identity, as in a trained model
        k = sd["jacobian.bias"].shape[0] // 4
        sd["jacobian.weight"] = sd["jacobian.weight"] * np.float32(0.25)
        sd["jacobian.bias"] = np.tile(np.float32([1, 0, 0, 1]), k) + np.float32(0.1) * fill(
            f"{network}.jacobian.bias*", (4 * k,), salt
        )
    return sd
