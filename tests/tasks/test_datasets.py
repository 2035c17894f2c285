"""Datasets and sample lists as stages get them from their context."""

from pathlib import Path

import pytest
import torch

from seethrough.errors import InputError
from seethrough.recipe import Local, Source, evolve
from seethrough.recipes.layerdiff import LayerDiff2DData, LayerDiff2DTrain, LayerDiff3DTrain
from seethrough.recipes.transparent_vae import TransparentVaeTrain
from seethrough.tasks.datasets import group_dataset, held_out, layer_dataset, tag_dataset
from seethrough.tasks.task import StageContext
from tests.samples import write_sample
from tests.tasks.small import draw


def test_entries_of_lists_lie_in_data_roots(tmp_path: Path) -> None:
    page = write_sample(tmp_path / "root/set", "a")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/list.txt").write_text("set/a.png\n")
    source: Source = Local("lists/list.txt")
    context = StageContext(
        name="train",
        directory=tmp_path,
        paths={source: tmp_path / "lists/list.txt"},
        device=torch.device("cpu"),
        report=print,
        data_roots=("elsewhere", str(tmp_path / "root")),
    )
    assert context.pages(source) == [page]
    sources = ((source, 2),)
    two = tag_dataset(evolve(LayerDiff2DTrain().data, sources=sources), context)
    three = group_dataset(evolve(LayerDiff3DTrain().data, sources=sources), context)
    for dataset in (two, three):
        assert [dataset.page_path(row) for row in range(len(dataset))] == [page, page]


def test_held_out_samples_are_not_changed_at_random() -> None:
    sources: tuple[tuple[Source, int], ...] = ((Local("train.txt"), 3),)
    validation = Local("held_out.txt")
    two = evolve(LayerDiff2DTrain().data, sources=sources, mask_condition=True, random_mask=0.5)
    three = evolve(LayerDiff3DTrain().data, sources=sources)
    assert held_out(two) is held_out(three) is None
    for data in (two, three):
        assert data.random_flip and data.random_pad
        held = held_out(evolve(data, validation=validation))
        assert held is not None and held.sources == ((validation, 1),)
        assert held.random_flip == held.random_pad == 0
        if isinstance(held, LayerDiff2DData):
            assert held.mask_condition and held.random_mask == 0


def test_pictures_alone_need_no_captions(tmp_path: Path) -> None:
    page = write_sample(tmp_path, "a", tags=("face",))
    (tmp_path / "a_face.txt").write_bytes(b"\xff")
    source: Source = Local(str(page))
    context = StageContext("train", tmp_path, {source: page}, torch.device("cpu"), print)
    sources = ((source, 1),)
    pictures = layer_dataset(evolve(TransparentVaeTrain().data, sources=sources), context)
    assert pictures[draw(0)]["layer"].any()
    tags = tag_dataset(evolve(LayerDiff2DTrain().data, sources=sources), context)
    with pytest.raises(InputError, match=r"a_face\.txt: the caption can't be read"):
        tags[draw(0)]
