"""Tensor names of DaGAN, FOMM and depth-network checkpoints, mapped to those of this library."""

from pathlib import Path

from torch import Tensor

# Foreign prefix -> ours; a key without any of them is unknown.
DETECTOR = {
    "predictor.encoder.": "hourglass.",
    "predictor.decoder.": "hourglass.",
    "kp.": "kp.",
    "jacobian.": "jacobian.",
}
GENERATOR = {
    "dense_motion_network.hourglass.encoder.": "dense_motion.hourglass.",
    "dense_motion_network.hourglass.decoder.": "dense_motion.hourglass.",
    "dense_motion_network.mask.": "dense_motion.mask.",
    "dense_motion_network.occlusion.": "dense_motion.occlusion.",
    "first.": "generator.appearance_encoder.first.",
    "down_blocks.": "generator.appearance_encoder.down_blocks.",
    "src_first.": "generator.depth_encoder.first.",
    "src_down_blocks.": "generator.depth_encoder.down_blocks.",
    "AttnModule.gamma": "generator.attention.gate",
    "AttnModule.query_conv.": "generator.attention.query.",
    "AttnModule.key_conv.": "generator.attention.key.",
    "AttnModule.value_conv.": "generator.attention.value.",
    "bottleneck.r": "generator.decoder.bottleneck.",
    "up_blocks.": "generator.decoder.up_blocks.",
    "final.": "generator.decoder.final.",
    "decoder.compress.": "generator.decoder.compress.",
    "decoder.fc.": "generator.decoder.fc.",
    "decoder.G_middle_": "generator.decoder.middle.",
    "decoder.up_": "generator.decoder.up.",
    "decoder.conv_img.": "generator.decoder.conv_img.",
}
# Inside SPADE blocks; the last three are torch's old and new spectral norm.
_INNER = {
    ".mlp_shared.0.": ".shared.",
    ".mlp_gamma.": ".gamma.",
    ".mlp_beta.": ".beta.",
    ".weight_orig": ".parametrizations.weight.original",
    ".weight_u": ".parametrizations.weight.0._u",
    ".weight_v": ".parametrizations.weight.0._v",
}
DEPTH_DECODER = {
    **{f"decoder.{8 - 2 * level}.conv.conv.": f"reduce.{level}." for level in range(5)},
    **{f"decoder.{9 - 2 * level}.conv.conv.": f"fuse.{level}." for level in range(5)},
    **{f"decoder.{10 + level}.conv.": f"heads.{level}." for level in range(4)},
}
POSE_DECODER = {
    f"net.{i}.": f"{name}." for i, name in enumerate(("squeeze", "conv1", "conv2", "motion", "focal", "centre"))
}


def rename(state: dict[str, Tensor], prefixes: dict[str, str], name: str | Path) -> dict[str, Tensor]:
    """Rename the prefixes of a state dict; a key without any of them is an error, which begins with `name`."""
    renamed, unknown = {}, []
    for key, tensor in state.items():
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        if prefix is None:
            unknown.append(key)
            continue
        ours = prefixes[prefix] + key[len(prefix) :]
        for old, new in _INNER.items():
            ours = ours.replace(old, new)
        renamed[ours] = tensor
    if unknown:
        raise ValueError(
            f"{name}: unknown {', '.join(key[:100] for key in unknown[:5])}" + (", ..." if len(unknown) > 5 else "")
        )
    return renamed
