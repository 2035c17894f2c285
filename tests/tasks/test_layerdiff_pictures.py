"""Pictures of LayerDiff's training: what stands where, and that steps compare."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops
from torch import Tensor, nn

from seethrough.inference.grid import CELL, picture_grid
from seethrough.recipe import Local, evolve
from seethrough.tasks.layerdiff2d import LayerDiff2D
from seethrough.tasks.layerdiff3d import LayerDiff3D
from seethrough.tasks.layerdiff_pictures import tag_rows
from tests.tasks.small import Small, context, stage_2d, stage_3d


def task_2d(small: Small, unet: Path, folder: Path, **data: Any) -> LayerDiff2D:
    stage = stage_2d(small)
    stage = evolve(
        stage,
        model=evolve(stage.model, unet=Local(str(unet))),
        data=evolve(stage.data, **data),
    )
    return LayerDiff2D(stage, context(stage, folder))


def task_3d(small: Small, unet: Path, folder: Path) -> LayerDiff3D:
    stage = stage_3d(small, unet)
    return LayerDiff3D(stage, context(stage, folder))


def cell(grid: Image.Image, column: int, row: int) -> Image.Image:
    place = (column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL)
    return grid.crop(place)


def one(argb: Tensor, label: str = "") -> bytes:
    """What a cell with an item's picture has to be."""
    return picture_grid([argb[[1, 2, 3, 0]] / 255], 1, [label]).tobytes()


def differ(first: Image.Image, second: Image.Image) -> float:
    """Largest difference of two pictures' levels."""
    return max(high for _, high in ImageChops.difference(first, second).getextrema())  # pyright: ignore


def test_2d_rows_have_truth_prediction_and_captioned_page(
    small: Small, unet_2d: Path, tmp_path: Path
) -> None:
    task = task_2d(small, unet_2d, tmp_path)
    shown = task.pictures(task.build().eval())["samples"]
    assert shown.size == (3 * CELL, 2 * CELL) and shown.mode == "RGB"
    for row in range(2):
        (where,) = task.fixed_draws("pictures", row, row)
        item = task.layers[where]
        assert cell(shown, 0, row).tobytes() == one(item["layer"])
        assert cell(shown, 2, row).tobytes() == one(item["page"], item["caption"])
        assert cell(shown, 2, row).tobytes() != one(item["page"])
        assert differ(cell(shown, 1, row), cell(shown, 0, row)) > 0


def test_the_prediction_is_what_the_network_says(
    small: Small, unet_2d: Path, tmp_path: Path
) -> None:
    """A network that knows the clean latents gives what the autoencoder makes of them."""
    task = task_2d(small, unet_2d, tmp_path)
    objective = evolve(task.stage.objective, prediction_type="sample")
    task.stage = evolve(task.stage, objective=objective)
    (where,) = task.fixed_draws("pictures", 0, 0)
    item = task.layers.item(where)
    (name,) = item.frames
    assert name is not None
    mean = task.encoder.posterior(item.picture(name))[:1]
    seen: list[Tensor] = []

    def network(latents: Tensor, timesteps: Tensor, hidden: Tensor, added: Any) -> Tensor:
        seen.append(latents)
        return (mean * task.encoder.scale)[:, None]

    shown = tag_rows(task, network)
    with torch.no_grad():
        decoded = task.transparent_vae.decode(task.vae, mean)
    assert differ(cell(shown, 1, 0), picture_grid([decoded[0]], 1)) <= 1
    # Beside the noisy latents it sees the page's, without the posterior's noise.
    page = task.encoder.posterior(item.picture("page"))[:1] * task.encoder.scale
    assert len(seen) == 2 * 25 and torch.equal(seen[0][:, 0, 4:], page)


@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_pictures_depend_on_the_weights_alone(
    small: Small, unet_2d: Path, unet_3d: Path, tmp_path: Path, kind: str
) -> None:
    made = {
        "2d": lambda: task_2d(small, unet_2d, tmp_path),
        "3d": lambda: task_3d(small, unet_3d, tmp_path),
    }
    task: Any = made[kind]()
    model: Any = task.build().eval()
    torch.manual_seed(1)
    first = task.pictures(model)
    state = torch.get_rng_state()
    # Captions, offset and noise of training are drawn for training alone.
    drawn = {"empty_prompt_probability": 1.0, "noise_offset": 1.0}
    task.stage = evolve(task.stage, seed=5, objective=evolve(task.stage.objective, **drawn))
    second = task.pictures(model)
    assert torch.equal(torch.get_rng_state(), state)  # nor does it draw from training's stream
    assert {name: p.tobytes() for name, p in second.items()} == {
        name: p.tobytes() for name, p in first.items()
    }
    with torch.no_grad():
        nn.init.normal_((model.unet if kind == "3d" else model).conv_out.weight)
    third = task.pictures(model)
    assert all(third[name].tobytes() != picture.tobytes() for name, picture in first.items())


def test_the_mask_condition_adds_what_is_seen(small: Small, unet_2d: Path, tmp_path: Path) -> None:
    task = task_2d(small, unet_2d, tmp_path, mask_condition=True)
    shown = task.pictures(task.build().eval())["samples"]
    assert shown.size == (4 * CELL, 2 * CELL)
    (where,) = task.fixed_draws("pictures", 0, 0)
    item = task.layers[where]
    assert cell(shown, 2, 0).tobytes() == one(item["page"], item["caption"])
    assert cell(shown, 3, 0).tobytes() == one(item["visible"])


def test_3d_pictures_show_the_page_and_the_tags_that_are_there(
    small: Small, unet_3d: Path, tmp_path: Path
) -> None:
    task = task_3d(small, unet_3d, tmp_path)
    shown = task.pictures(task.build().eval())
    assert set(shown) == {"group-0", "group-1"}
    # Only the second sample has layers of the head.
    for group, row, tags in (
        (0, 0, ["back hair", "topwear", "legwear"]),
        (1, 1, ["face", "mouth"]),
    ):
        grid = shown[f"group-{group}"]
        assert grid.size == (4 * CELL, 2 * CELL)
        item = task.layers[task.fixed_draws("pictures", 0, row)[group]]
        assert cell(grid, 0, 0).tobytes() == one(item["page"], "page")
        assert cell(grid, 1, 0).tobytes() == one(torch.zeros_like(item["page"]))
        present = [place for place, there in enumerate(item["present"]) if there]
        captions = [item["captions"][place] for place in present]
        assert [caption.split(",")[0] for caption in captions] == tags
        for number, (place, caption) in enumerate(zip(present, captions, strict=True), start=1):
            column, line = 2 * (number % 2), number // 2
            truth = cell(grid, column, line)
            assert truth.tobytes() == one(item["layers"][place], f"{caption}: true")
            assert differ(cell(grid, column + 1, line), truth) > 0


def test_a_group_that_no_sample_has_shows_the_page_alone(
    small: Small, unet_3d: Path, tmp_path: Path
) -> None:
    task = task_3d(small, unet_3d, tmp_path)
    task.layers.groups = (("wings",) * 13, ("tail",) * 11)  # pyright: ignore
    shown = task.pictures(task.build().eval())
    assert {picture.size for picture in shown.values()} == {(4 * CELL, CELL)}
