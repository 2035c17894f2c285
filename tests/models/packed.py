"""Write checkpoints with linear layers of 4 bits, as diffusers and bitsandbytes write them."""

import json
from pathlib import Path
from typing import Any

from bitsandbytes.nn.modules import Linear4bit
from diffusers.quantizers.quantization_config import BitsAndBytesConfig
from safetensors.torch import save_file
from torch import nn

SKIPPED = ["time_embedding"]


def save_packed(unet: Any, folder: Path, nested: bool = False) -> None:
    """Write a UNet with its linear layers packed, but those in `SKIPPED`; the UNet is changed.

    Their inputs are multiples of 64, which is what shares a scale; `nested` packs scales too.
    """
    unet.save_config(folder)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=nested,
        llm_int8_skip_modules=SKIPPED,
    )
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = quantization.to_dict()
    (folder / "config.json").write_text(json.dumps(config))
    for name, layer in list(unet.named_modules()):
        if isinstance(layer, nn.Linear) and name.split(".")[0] not in SKIPPED:
            packed = Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=layer.bias is not None,
                compress_statistics=nested,
                quant_type="nf4",
            )
            packed.load_state_dict(layer.state_dict())
            unet.set_submodule(name, packed.to("cpu"))  # this packs
    save_file(unet.state_dict(), folder / "diffusion_pytorch_model.safetensors")
