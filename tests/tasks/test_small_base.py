"""The stage that makes a base: the values of the recipe arrive; the same seed, the same bytes."""

import json
from pathlib import Path

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from seethrough.data.tags import LEGWEAR_WITH_FOOTWEAR, TRAINING_TAGS
from seethrough.engine.files import tree_sha256
from seethrough.models.checkpoints import load_model
from seethrough.models.text_table import encode_captions
from seethrough.recipe import Local, evolve
from seethrough.recipes.small_base import SmallBase
from seethrough.tasks.small_base import small_base_stage
from tests.tasks.small import SCALING, Small, context


def stage_from(small: Small) -> SmallBase:
    return SmallBase(
        vae=Local(str(small.base / "vae")),
        channels=(8, 16, 24),
        layers=2,
        transformer_layers=(1, 1, 2),
        heads=(1, 2, 3),
        norm_groups=4,
        text_widths=(12, 8),
        text_length=9,
    )


def test_the_base_has_the_recipe_s_shape_and_the_given_vae(small: Small, tmp_path: Path) -> None:
    stage, said = stage_from(small), []
    result = small_base_stage(stage, context(stage, tmp_path, said))
    assert set(result.artifacts) == set(type(stage).outputs)
    base = result.artifacts["base"]
    assert said == [f"small: stands in for a pretrained base: {base}"]
    config = load_model(UNet2DConditionModel, base / "unet").config
    assert tuple(config["block_out_channels"]) == (8, 16, 24)
    assert config["layers_per_block"] == 2
    assert tuple(config["transformer_layers_per_block"]) == (1, 1, 2)
    assert tuple(config["attention_head_dim"]) == (1, 2, 3)
    assert config["norm_num_groups"] == 4
    assert config["cross_attention_dim"] == 20
    assert tree_sha256(base / "vae") == tree_sha256(small.base / "vae")
    assert load_model(AutoencoderKL, base / "vae").config["scaling_factor"] == SCALING
    index = json.loads((base / "model_index.json").read_text())
    assert all((base / part).is_dir() for part in index if not part.startswith(("_", "force")))


def test_captions_of_the_chain_are_few_tokens(small: Small, tmp_path: Path) -> None:
    stage = stage_from(small)
    base = small_base_stage(stage, context(stage, tmp_path)).artifacts["base"]
    captions = [*TRAINING_TAGS, LEGWEAR_WITH_FOOTWEAR, ""]
    table = encode_captions(base, captions)
    assert table.hidden.shape == (len(captions), 9, 20) and table.pooled.shape == (len(captions), 8)
    # No two are alike, so none was cut off.
    assert len({tuple(row.tolist()) for row in table.pooled}) == len(captions)


def test_the_same_seed_gives_the_same_bytes(small: Small, tmp_path: Path) -> None:
    stage = stage_from(small)
    hashes = [
        tree_sha256(small_base_stage(made, context(made, tmp_path / name)).artifacts["base"])
        for name, made in (("a", stage), ("b", stage), ("c", evolve(stage, seed=stage.seed + 1)))
    ]
    assert hashes[0] == hashes[1] != hashes[2]
