"""The networks, under their published class names."""

from seethrough.models.transparent_vae import TransparentVAE
from seethrough.models.unet_frame_condition import UNetFrameConditionModel

__all__ = ["TransparentVAE", "UNetFrameConditionModel"]
