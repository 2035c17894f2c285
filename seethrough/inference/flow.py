"""The two published flows: the passes that decompose a page, and their tags."""

from __future__ import annotations

from typing import Any

import attrs

from seethrough.data.tags import TAGS_V2, TAGS_V3, VERSION_GROUPS
from seethrough.errors import InputError
from seethrough.models import UNetFrameConditionModel
from seethrough.models.unet_frame_condition import CrossFrameTransformerBlock


@attrs.frozen
class Flow:
    """How a page is decomposed."""

    groups: tuple[tuple[str, ...], ...]
    """Tags of each pass, one a frame: of one over all, or of the body's and of the head's."""
    tags: tuple[str, ...]
    """The tags of the layers that make up the picture, in the published order: without `head`."""


FLOWS = {
    "v2": Flow(VERSION_GROUPS["v2"], TAGS_V2),
    "v3": Flow(VERSION_GROUPS["v3"], TAGS_V3),
}
"""By the `tag_version` of a UNet's config."""


def unet_flow(unet: UNetFrameConditionModel, config_file: str) -> Flow:
    """The flow that a UNet's config names.

    `config_file` is what messages call the config.

    Raises:
        InputError: when there is no such flow, or the network does not fit it.
    """
    config: Any = unet.config
    version = config["tag_version"]
    if version not in FLOWS:
        raise InputError(
            f"{config_file}: tag_version {version!r} is no flow, known are {', '.join(FLOWS)}: "
            "set it to the one that the UNet was trained for"
        )
    if not any(isinstance(module, CrossFrameTransformerBlock) for module in unet.modules()):
        raise InputError(
            f"{config_file}: this UNet has no blocks across frames: convert it with an inflate "
            "stage"
        )
    channels = 2 * config["out_channels"]
    if config["in_channels"] != channels:
        raise InputError(
            f"{config_file}: this UNet takes {config['in_channels']} channels, a decomposition "
            f"gives {channels}: noisy latents and the page's"
        )
    flow = FLOWS[version]
    if config["group_embedding"]:
        if len(flow.groups) == 1:
            raise InputError(
                f"{config_file}: tag_version {version!r} has one group, but this UNet has group "
                "embeddings: it was trained for another flow, set tag_version to that"
            )
        sizes = [len(group) for group in flow.groups]
        if list(config["group_embedding_num"]) != sizes:
            raise InputError(
                f"{config_file}: the UNet's tag groups have {list(config['group_embedding_num'])} "
                f"frames, the {version} tags need {sizes}: take a UNet trained on these"
            )
    return flow
