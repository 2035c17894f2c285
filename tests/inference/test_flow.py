import re
from typing import Any

import pytest

from seethrough.data.tags import BODY_GROUP, HEAD, HEAD_GROUP, TAGS_V2, TAGS_V3
from seethrough.errors import InputError
from seethrough.inference.flow import FLOWS, unet_flow
from tests.inference.small import small_unet


def test_the_flows_are_the_published_ones():
    assert FLOWS["v2"].groups == (TAGS_V2,) and FLOWS["v2"].tags == TAGS_V2
    assert FLOWS["v3"].groups == (BODY_GROUP, HEAD_GROUP) and FLOWS["v3"].tags == TAGS_V3
    for flow in FLOWS.values():
        assert {tag for group in flow.groups for tag in group} - {HEAD} == set(flow.tags)


@pytest.mark.parametrize(
    ("config", "version"),
    [
        ({}, "v2"),
        ({"tag_version": "v2"}, "v2"),
        ({"tag_version": "v3"}, "v3"),
        ({"tag_version": "v3", "group_embedding": True}, "v3"),
    ],
)
def test_the_config_names_the_flow(config: dict[str, Any], version: str):
    assert unet_flow(small_unet(**config), "config.json") is FLOWS[version]


PLAIN = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"tag_version": "v4"}, "tag_version 'v4' is no flow, known are v2, v3"),
        ({"tag_version": None}, "tag_version None is no flow"),
        ({"group_embedding": True}, "tag_version 'v2' has one group, but this UNet has group"),
        (
            {"tag_version": "v3", "group_embedding": True, "group_embedding_num": (3, 2)},
            "the UNet's tag groups have [3, 2] frames, the v3 tags need [13, 11]",
        ),
        ({"tag_version": "v3", **PLAIN}, "this UNet has no blocks across frames"),
        ({"tag_version": "v3", "in_channels": 12}, "takes 12 channels, a decomposition gives 8"),
    ],
)
def test_a_network_of_no_flow_is_refused(config: dict[str, Any], message: str):
    with pytest.raises(InputError, match=re.escape("model/config.json: ") + ".*"):
        unet_flow(small_unet(**config), "model/config.json")
    with pytest.raises(InputError, match=re.escape(message)):
        unet_flow(small_unet(**config), "model/config.json")
