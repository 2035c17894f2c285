"""Part segmentation: what a step computes, where it starts from, and what it leaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seethrough.errors import InputError
from seethrough.inference.partseg import load_partseg, predict_parts
from seethrough.models.semantic_sam_weights import save_new_sam
from seethrough.recipe import Local, evolve
from seethrough.recipes.partseg import PartSegTrain
from seethrough.tasks.partseg import PartSeg
from tests.models.small_sam import SMALL
from tests.samples import write_list, write_sample
from tests.tasks.small import batch, context, draw

TAGS = ("topwear", "hair", "footwear")

Make = Callable[..., PartSeg]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pages, and a SAM."""
    folder = tmp_path_factory.mktemp("partseg")
    pages = [
        write_sample(folder, name, tags=("back hair", "topwear"), seed=seed)
        for seed, name in enumerate(("one", "two"))
    ]
    write_list(folder / "list.txt", pages)
    save_new_sam(folder / "sam.safetensors", SMALL, seed=3)
    return folder


@pytest.fixture
def make(files: Path, tmp_path: Path) -> Make:
    """Makes tasks; values by section."""

    def task(**values: dict[str, Any]) -> PartSeg:
        default = PartSegTrain()
        pages = Local(str(files / "list.txt"))
        data = {"sources": ((pages, 1),), "tags": TAGS, "target_size": SMALL.image_size}
        model = {"sam": Local(str(files / "sam.safetensors"))}
        sampling = evolve(default.loss.sampling, points=64)
        stage = evolve(
            default,
            model=evolve(default.model, **{**model, **values.get("model", {})}),
            data=evolve(default.data, **{**data, **values.get("data", {})}),
            loss=evolve(default.loss, sampling=sampling, **values.get("loss", {})),
        )
        return PartSeg(stage, context(stage, tmp_path))

    return task


def test_the_loss_is_a_mean_over_masks_that_are_relied_on(make: Make) -> None:
    """A mask that is not has no part in it, and no say in the number."""
    task = make(loss={"dice": 0.5})
    model, given = task.build(), batch(task, draw(0), draw(1))
    assert task.weight(given) == given["valid"].sum() == 6
    whole = task.loss(model, given)
    assert float(whole.total) == pytest.approx(
        float(whole.terms["bce"] + 0.5 * whole.terms["dice"])
    )
    rest = 0.0
    for plane in range(3):
        given["valid"] = torch.zeros(2, 3, dtype=torch.bool)
        given["valid"][:, plane] = True
        assert task.weight(given) == 2
        rest += float(task.loss(model, given).total)
    assert float(whole.total) == pytest.approx(rest, rel=1e-5)
    given["valid"][:] = False
    nothing = task.loss(model, given).total
    nothing.backward()
    assert float(nothing) == 0
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters())


def test_every_trained_parameter_is_taught(make: Make) -> None:
    """Data parallel training waits for the gradient of each."""
    for frozen in ({}, {"freeze_image_encoder": True, "freeze_mask_decoder": True}):
        task = make(model={"freeze_prompt_encoder": False, **frozen})
        model = task.build().train()
        (group,) = task.parameter_groups(model, 1e-3)
        trained = {id(p) for p in group.parameters}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        task.loss(model, batch(task, draw(0))).total.backward()
        assert all(p.grad is not None for p in group.parameters)
        heads = sum(p.numel() for p in model.mask_adapter.output_hypernetworks_mlps.parameters())
        assert sum(p.numel() for p in group.parameters) > heads


def test_what_is_learnt_is_found_again(make: Make, files: Path, tmp_path: Path) -> None:
    """A few steps on two pages, exported, used, and gone on from."""
    torch.set_num_threads(1)
    off = {"random_flip": 0.0, "random_crop": 0.0, "random_hsv": 0.0}
    validation = {"validation": Local(str(files / "list.txt"))}
    task = make(data={**off, **validation})
    model = task.build().train()
    (group,) = task.parameter_groups(model, 1e-3)
    optimizer = torch.optim.AdamW(group.parameters, 5e-3)
    given = batch(task, draw(0), draw(1))
    losses: list[float] = []
    for _ in range(30):
        loss = task.loss(model, given).total / task.weight(given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    model.eval()
    with torch.no_grad():
        scores, pictures = task.validate(model), task.pictures(model)
    assert scores["iou/topwear"] > 0.3 and 0 < scores["accuracy"] <= 1
    assert pictures["parts"].height >= 2 * SMALL.image_size
    (folder,) = task.export(model, tmp_path / "out").values()
    used = load_partseg(folder, torch.device("cpu"), torch.float32)
    assert used.tags == TAGS
    page = given["picture"][0].numpy().transpose(1, 2, 0)
    with torch.no_grad():
        expected = task.find(model, given["picture"][:1])[0]
    assert (predict_parts(used, page) == expected.numpy()).mean() > 0.999
    on = make(model={"sam": None, "partseg": Local(str(folder))}).build()
    assert all(torch.equal(a, b) for a, b in zip(on.parameters(), model.parameters(), strict=True))
    assert not any(p.requires_grad for p in on.prompt_adapter.parameters())


def test_what_does_not_fit_is_refused(make: Make, tmp_path: Path) -> None:
    task = make()
    (folder,) = task.export(task.build(), tmp_path).values()
    model = {"sam": None, "partseg": Local(str(folder))}
    for values, said in (
        ({"data": {"tags": TAGS[:2]}}, r"data\.tags: 2 tags, but the model in .* has 3 classes"),
        ({"data": {"tags": TAGS[::-1]}}, "'footwear' is number 0, but that .* is 'topwear'"),
        ({"model": {"mask_decoder": "token_variant"}}, "model in .* has mlp_variant: set it"),
        ({"data": {"target_size": 128}}, "128, but the network of .* sees 64 px"),
    ):
        values = {**values, "model": {**model, **values.get("model", {})}}
        with pytest.raises(InputError, match=said):
            make(**values).build()
