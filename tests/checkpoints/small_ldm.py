"""Settings of a small latent diffusion model, and the YAML that is published with such a file."""

from __future__ import annotations

from typing import Any

UNET: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 32,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "num_head_channels": 32,
}
VQ: dict[str, Any] = {
    "kind": "vq",
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "z_channels": 3,
    "embed_dim": 3,
    "n_embed": 16,
}
LDM_YAML: dict[str, Any] = {
    "model": {
        "target": "os.system",  # never looked up
        "params": {
            "linear_start": 0.0015,
            "linear_end": 0.0195,
            "timesteps": 1000,
            "unet_config": {"target": "nowhere.UNetModel", "params": {"image_size": 16, **UNET}},
            "first_stage_config": {
                "target": "nowhere.VQModel",
                "params": {
                    "embed_dim": 3,
                    "n_embed": 16,
                    "ddconfig": {key: VQ[key] for key in ("in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks")}
                    | {"z_channels": 3, "double_z": False, "resolution": 32, "attn_resolutions": [], "dropout": 0.0},
                },
            },
        },
    }
}
