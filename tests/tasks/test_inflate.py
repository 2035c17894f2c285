"""The conversion stage: its table, its proof, its seed, and what it does to a 3D source."""

from pathlib import Path

import pytest
import torch

from seethrough.engine.files import tree_sha256
from seethrough.errors import InputError
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import load_model, read_config, read_state_dict
from seethrough.recipe import Local, evolve
from seethrough.recipes.inflate import Inflate
from seethrough.tasks.inflate import inflate_stage
from tests.tasks.small import context


def stage_from(unet: Path) -> Inflate:
    return Inflate(unet=Local(str(unet)))


def test_a_2d_unet_becomes_3d_without_a_change(unet_2d: Path, tmp_path: Path) -> None:
    stage, said = stage_from(unet_2d), []
    result = inflate_stage(stage, context(stage, tmp_path, said))
    assert result.metrics == {"max_difference": 0.0}
    assert set(result.artifacts) == set(type(stage).outputs)
    folder = result.artifacts["unet"]
    source, target = read_state_dict(unet_2d), read_state_dict(folder)
    rows = [line.split("\t") for line in (folder / "inflation.tsv").read_text().splitlines()[1:]]
    assert {row[0] for row in rows} == set(target)
    counts = {v: sum(row[1] == v for row in rows) for v in {row[1] for row in rows}}
    assert counts["copied"] == len(source)
    assert said[0].startswith(f"small: 2D source; {len(source)} copied, ")
    for verdict, count in counts.items():
        assert f"{count} {verdict}" in said[0]
    assert f"{folder}/inflation.tsv" in said[0]
    assert said[1].endswith("largest difference 0.0")
    config = load_model(UNetFrameConditionModel, folder).config
    assert config["group_embedding"] and config["tag_version"] == "v3"
    assert list(config["group_embedding_num"]) == [13, 11]


def test_new_weights_follow_from_the_seed(unet_2d: Path, tmp_path: Path) -> None:
    folders: list[Path] = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(folders))
        stage = evolve(stage_from(unet_2d), seed=seed)
        folders.append(inflate_stage(stage, context(stage, tmp_path / name)).artifacts["unet"])
    first, again, other = map(tree_sha256, folders)
    assert first == again != other


def test_a_3d_source_keeps_what_it_learned(unet_3d: Path, tmp_path: Path) -> None:
    stage, said = stage_from(unet_3d), []
    result = inflate_stage(stage, context(stage, tmp_path, said))
    assert result.metrics == {"max_difference": 0.0}
    source, target = read_state_dict(unet_3d), read_state_dict(result.artifacts["unet"])
    assert source.keys() == target.keys()
    assert all(torch.equal(value, source[key]) for key, value in target.items())
    assert said[0].startswith(
        f"small: 3D source, weights as they are; {len(source)} copied (each key"
    )


def test_the_type_on_disk(unet_2d: Path, tmp_path: Path) -> None:
    stage = evolve(stage_from(unet_2d), dtype="bfloat16")
    result = inflate_stage(stage, context(stage, tmp_path))
    assert result.metrics == {"max_difference": 0.0}
    state = read_state_dict(result.artifacts["unet"])
    assert {value.dtype for value in state.values()} == {torch.bfloat16}


def test_groups_are_those_of_the_recipe(unet_2d: Path, tmp_path: Path) -> None:
    stage = evolve(stage_from(unet_2d), group_sizes=(3, 2, 4))
    folder = inflate_stage(stage, context(stage, tmp_path / "groups")).artifacts["unet"]
    state = read_state_dict(folder)
    assert [state[f"group_embeds.{group}.params"].shape[0] for group in range(3)] == [3, 2, 4]


def test_the_config_names_the_flow_and_the_groups(unet_2d: Path, tmp_path: Path) -> None:
    stage = evolve(stage_from(unet_2d), tag_version="v2", group_embedding=False, group_sizes=(19,))
    folder = inflate_stage(stage, context(stage, tmp_path)).artifacts["unet"]
    assert not any(key.startswith("group_embeds") for key in read_state_dict(folder))
    config = read_config(folder)
    assert (config["tag_version"], config["group_embedding"]) == ("v2", False)
    assert config["group_embedding_num"] == [19]


def test_a_folder_without_a_unet_is_refused(tmp_path: Path) -> None:
    stage = stage_from(tmp_path)
    with pytest.raises(InputError, match=r"config\.json: not found"):
        inflate_stage(stage, context(stage, tmp_path / "stage"))
