"""Validation on held-out samples: fixed draws, and nothing of it in what is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seethrough.data.draws import Draw
from seethrough.engine.execute import Work, run_stage
from seethrough.engine.files import tree_sha256
from seethrough.inference.composite import quantize
from seethrough.metrics.layers import score_layer
from seethrough.recipe import Local, Recipe, evolve
from seethrough.recipes.layerdiff import Objective, Objective3D
from seethrough.recipes.training import TrainStage
from seethrough.recipes.transparent_vae import TransparentVaeTrain
from seethrough.tasks import latent_diffusion, layerdiff_prediction, layerdiff_scores
from seethrough.tasks.layerdiff2d import LayerDiff2D
from seethrough.tasks.layerdiff3d import LayerDiff3D
from tests.samples import write_list, write_sample
from tests.tasks.small import Small, batch, context, draw, small_data, stage_2d, stage_3d

QUARTERS = {f"loss/t{quarter}" for quarter in ("000-249", "250-499", "500-749", "750-999")}
LAYERS = {f"layers/{measure}" for measure in ("iou", "mae", "psnr", "dice", "published_dice_loss")}
PLACES = 8

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of the usual, and two steps to denoise in, to save time."""
    monkeypatch.setattr(latent_diffusion, "VALIDATION_PLACES", PLACES)
    monkeypatch.setattr(layerdiff_prediction, "STEPS", 2)
    monkeypatch.setattr(layerdiff_scores, "MEASURED", 1)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of one sample that training never sees, with a caption of its own."""
    folder = tmp_path_factory.mktemp("held_out")
    page = write_sample(folder, "other", tags=("topwear", "face"), seed=9)
    (folder / "other_face.txt").write_text("a face of its own")
    return write_list(folder / "held_out.txt", [page])


@pytest.fixture(params=["2d", "3d"])
def make(
    request: pytest.FixtureRequest, small: Small, unet_2d: Path, unet_3d: Path, tmp_path: Path,
    held_out: Path,
) -> Make:  # fmt: skip
    """Makes tasks of both kinds."""

    def task(objective: dict[str, Any] | None = None, **data: Any) -> Any:
        data = {"validation": Local(str(held_out)), **data}
        given = {"offset_probability": 0.25, **(objective or {})}
        if request.param == "3d":
            stage = stage_3d(small, unet_3d, Objective3D(**given))
            stage = evolve(stage, data=evolve(stage.data, **data))
            return LayerDiff3D(stage, context(stage, tmp_path))
        given.pop("absent_weight", None)
        stage = stage_2d(small, Objective(**given))
        model = evolve(stage.model, unet=Local(str(unet_2d)))
        stage = evolve(stage, model=model, data=evolve(stage.data, **data))
        return LayerDiff2D(stage, context(stage, tmp_path))

    return task


def validated(task: Any, model: nn.Module) -> dict[str, float]:
    with torch.no_grad():
        return task.validate(model)


def test_it_is_the_loss_of_fixed_draws_at_even_timesteps(make: Make) -> None:
    task = make()
    model = task.build().eval()
    found = validated(task, model)
    items = task.held_out
    groups = 2 if isinstance(task, LayerDiff3D) else 1
    absent = {"layers/false_layers"} if groups == 2 else set()
    assert found.keys() == {"loss"} | QUARTERS | LAYERS | absent
    factor = task.stage.data.ngroup_iters if groups == 2 else 1
    sums = dict.fromkeys(range(4), 0.0)
    counts = dict.fromkeys(range(4), 0.0)
    everything = make(sources=((task.stage.data.validation, 1),), validation=None)
    dataset = everything.dataset()
    for place in range(PLACES):
        timestep = 1000 * (2 * place + 1) // (2 * PLACES)
        for group in range(groups):
            index = (place * groups + group) * factor
            where = Draw(seed=0, stage="validation", step=0, index=index, sample=place % len(items))
            data = task.collate([dataset[where]])
            with torch.no_grad():
                loss = task.loss_at(model, data, torch.tensor([timestep]))
            sums[timestep // 250] += float(loss.total)
            counts[timestep // 250] += task.weight(data)
    whole = sum(sums.values()) / sum(counts.values())
    assert found["loss"] == pytest.approx(whole, rel=1e-5)
    for quarter, name in enumerate(sorted(QUARTERS)):
        assert found[name] == pytest.approx(sums[quarter] / counts[quarter], rel=1e-5)


def test_layers_that_are_denoised_are_measured_as_those_of_a_decomposition(make: Make) -> None:
    task = make()
    model = task.build().eval()
    found = validated(task, model)
    scores: list[dict[str, float]] = []
    false: list[float] = []
    draws = task.fixed_draws("layers", 0, 0)
    for network, where in zip(task.networks(model), draws, strict=True):
        item = layerdiff_prediction.shown_item(task, task.held_out, where)
        captions = item.get("captions") or [item["caption"]]
        layers = layerdiff_prediction.predict_layers(task, item, captions, network, absent=True)
        for name, layer in zip(item["frames"], layers, strict=True):
            rgba = quantize(layer.permute(1, 2, 0).numpy())
            if name is None:
                false.append(float((rgba[..., 3] > 127).mean() > 0.001))
            else:
                true = layerdiff_prediction.true_layer(item, name).permute(1, 2, 0)
                scores.append(score_layer(rgba, quantize(true.numpy())))
    for measure in ("iou", "mae", "psnr"):
        mean = sum(one[measure] for one in scores) / len(scores)
        assert found[f"layers/{measure}"] == pytest.approx(mean)
    if false:
        assert len(scores) + len(false) == 24
        assert found["layers/false_layers"] == pytest.approx(sum(false) / len(false))


def test_it_depends_on_the_weights_and_the_samples_alone(make: Make) -> None:
    task = make()
    model = task.build().eval()
    first = validated(task, model)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    other = make(random_flip=1.0, random_pad=1.0)
    other.stage = evolve(other.stage, seed=9)
    assert validated(other, model) == first
    assert torch.equal(torch.get_rng_state(), state)
    unet = model.unet if isinstance(task, LayerDiff3D) else model
    with torch.no_grad():
        unet.conv_out.weight.mul_(0.5)
    assert validated(task, model)["loss"] != first["loss"]


def test_without_held_out_samples_there_is_none(make: Make) -> None:
    task = make(validation=None)
    assert validated(task, task.build().eval()) == {}


def test_frames_that_do_not_count_are_left_out(make: Make) -> None:
    task = make({"absent_weight": 0.0})
    model = task.build().eval()
    loss = validated(task, model)["loss"]
    if isinstance(task, LayerDiff3D):
        # A character without any tag has nothing that counts.
        none = make({"absent_weight": 0.0}, groups=(("wings",) * 13, ("tail",) * 11))
        assert validated(none, model).keys() == {"layers/false_layers"}
        assert loss != validated(make(), model)["loss"]


def test_the_parts_of_a_training_loss_add_up(make: Make) -> None:
    task = make({"absent_weight": 0.25})
    model = task.build()
    data = batch(task, *(draw(index, sample=index % 2, step=index) for index in range(5)))
    loss = task.loss(model, data)
    assert float(loss.parts.sums.sum()) == pytest.approx(float(loss.total.detach()), rel=1e-5)
    assert float(loss.parts.counts.sum()) == pytest.approx(task.weight(data))
    timesteps = task.diffusion.timesteps(data["draw"], torch.device("cpu"))
    there = [bool(((timesteps // 250) == quarter).any()) for quarter in range(4)]
    assert (loss.parts.counts > 0).tolist() == there


def trained(stage: TrainStage, folder: Path) -> dict[str, str]:
    """Train through the engine; hashes of what is left, by name."""
    paths = Work("train", stage, folder / "experiment" / "train", {})
    paths.directory.mkdir(parents=True)
    finished = run_stage(paths)
    assert finished is not None
    return {name: tree_sha256(path) for name, path in finished.result.artifacts.items()}


def shortened(stage: Any, small: Small, precision: str, **schedule: Any) -> Any:
    """Two steps on the CPU, with noise and offset."""
    return evolve(
        stage,
        data=evolve(
            stage.data,
            global_batch=2,
            validation=small.source("samples") if schedule["validate_every"] else None,
        ),
        schedule=evolve(stage.schedule, max_steps=2, warmup_steps=1, log_every=1, **schedule),
        optim=evolve(stage.optim, precision=precision),
        hardware=evolve(
            stage.hardware, device="cpu", processes=1, micro_batch=1, loader_workers=0, threads=1
        ),
        tracking=evolve(stage.tracking, tracker=None),
    )


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("2d", "fp32"), ("3d", "bf16"), ("vae", "bf16")],
    ids=["2d", "3d", "vae"],
)
def test_training_ends_in_the_same_bits(
    small: Small, unet_2d: Path, unet_3d: Path, tmp_path: Path, kind: str, precision: str
) -> None:
    stages: dict[str, Callable[[], Recipe]] = {
        "2d": lambda: stage_2d(small, Objective()),
        "3d": lambda: stage_3d(small, unet_3d, Objective3D()),
        "vae": lambda: small_vae(small),
    }
    stage = stages[kind]()
    watched = shortened(stage, small, precision, validate_every=1, pictures_every=1)
    alone = shortened(stage, small, precision, validate_every=None, pictures_every=None)
    assert trained(watched, tmp_path / "watched") == trained(alone, tmp_path / "alone")
    left = tmp_path / "watched/experiment/train"
    pictures = [path.name for path in (left / "pictures").iterdir()]
    assert len(pictures) == 2 * (2 if kind == "3d" else 1)
    lines = (left / "log.jsonl").read_text()
    values = 5 + len(LAYERS) + (kind == "3d")
    assert lines.count('"validation/') == 2 * (2 if kind == "vae" else values)


def small_vae(small: Small) -> TransparentVaeTrain:
    """Autoencoders as small as can be."""
    default = TransparentVaeTrain(schedule=stage_2d(small).schedule)
    model = evolve(
        default.model, vae_channels=(4, 4, 8, 8), vae_layers=1, vae_norm_groups=2,
        encoder_channels=(4, 4, 4, 4), decoder_channels=(4, 4, 8, 8, 8), decoder_layers=1,
    )  # fmt: skip
    return evolve(default, model=model, data=small_data(default.data, small))
