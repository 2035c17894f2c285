"""The decomposition stage: pages in, PNG layers, PSDs and a report out, measured where possible."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import attrs
import torch
from torch import nn

from seethrough.data.layout import Sample, read_sample
from seethrough.data.tags import BODY_GROUP, HEAD, HEAD_GROUP, TAGS_V3
from seethrough.errors import InputError
from seethrough.inference.ceiling import reconstruct_layers
from seethrough.inference.composite import DRAWING_ORDER, Image8, drawing_order, flatten
from seethrough.inference.decompose import (
    DecomposeOptions,
    Decomposition,
    LayerDiff,
    decompose_pages,
)
from seethrough.inference.psd import write_layer_pngs, write_psd
from seethrough.inference.report import ReportedCharacter, write_report
from seethrough.inference.sampling import Solver
from seethrough.metrics.baselines import NearestCharacter, mean_layers
from seethrough.metrics.layers import (
    CharacterScores,
    LayerMetrics,
    LayerScores,
    Truth,
    load_truth,
    score_character,
    true_layers_difference,
)
from seethrough.metrics.table import comparison_table
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import load_model
from seethrough.models.text_table import encode_captions
from seethrough.recipes.layerdiff import Decompose
from seethrough.tasks.latents import load_transparent_vae, load_vae
from seethrough.tasks.task import StageContext, StageResult

CHAIN, MEAN, NEAREST, CEILING = "chain", "mean alpha", "nearest", "ceiling"


@attrs.frozen
class _Page:
    """One page on its way through the stage."""

    sample: Sample
    result: Decomposition
    truth: Truth | None
    psd: Path


def decompose_stage(stage: Decompose, context: StageContext) -> StageResult:
    """Decompose all pages; print the table and the paths of the PSDs and the report."""
    models = _load(stage, context)
    options = DecomposeOptions(
        resolution=stage.resolution,
        steps=stage.sampler.steps,
        solver=Solver(prediction_type=stage.prediction_type),
        shared_init_noise=stage.sampler.shared_noise,
        crop_to=stage.crop_to,
        head_pass=stage.head_pass,
        decode_passes=8 if stage.averaged_decode else 1,
        page_batch=stage.pages_at_once,
        decode_batch=stage.pages_at_once,
    )
    samples = _read_samples(stage, context.pages(stage.pages))
    _check_names(samples)
    layers_folder = context.directory / "layers"
    pages = [
        _write(result, sample, layers_folder, stage.resolution)
        for sample, result in zip(samples, _decompose(models, samples, stage, options), strict=True)
    ]
    known = [page for page in pages if page.truth is not None]
    systems: dict[str, LayerScores] = {}
    scores: dict[str, CharacterScores] = {}
    difference = 0.0
    if known:
        systems, scores = _measure(stage, context, models, options, known)
        (context.directory / "scores.json").write_text(
            json.dumps({name: attrs.asdict(value) for name, value in systems.items()}, indent=1)
        )
        context.report(comparison_table(systems))
        difference = max(true_layers_difference(page.sample) for page in known)
        context.report(
            f"{context.name}: true layers over each other differ from their page by at most "
            f"{difference:.2f} of 255"
        )
    report = context.directory / "report.html"
    _report(report, stage, pages, systems, scores)
    for path in (*(page.psd for page in pages), report):
        context.report(f"{context.name}: {path}")
    metrics = {
        f"{name.replace(' ', '_')}_{measure}": value
        for name, result in systems.items()
        for measure, value in result.overall.items()
        if value is not None
    }
    if known:
        metrics["true_layers_difference"] = difference
    return StageResult({"layers": layers_folder, "report": report}, metrics)


def _read_samples(stage: Decompose, pages: list[Path]) -> list[Sample]:
    return [read_sample(path, stage.layer_alpha) for path in pages]


def _check_names(samples: list[Sample]) -> None:
    """Refuse pages whose layers would overwrite each other."""
    seen: dict[str, Path] = {}
    for sample in samples:
        if sample.name in seen:
            raise InputError(
                f"{sample.page_path}: its layers would be named {sample.name!r}, as those of "
                f"{seen[sample.name]}: rename one page, or list it once"
            )
        seen[sample.name] = sample.page_path


def _load(stage: Decompose, context: StageContext) -> LayerDiff:
    base = context.path(stage.base)
    dtype = torch.bfloat16 if stage.precision == "bf16" else torch.float32
    text = encode_captions(base, [*BODY_GROUP, *HEAD_GROUP], context.device)
    networks: list[nn.Module] = [
        load_model(UNetFrameConditionModel, context.path(stage.unet)),
        load_vae(base),
        load_transparent_vae(context.path(stage.transparent_vae)),
    ]
    unet, vae, transparent_vae = (
        nn.Module.to(network, context.device, dtype).eval() for network in networks
    )
    return LayerDiff(unet, vae, transparent_vae, text)  # pyright: ignore[reportArgumentType]


def _decompose(
    models: LayerDiff, samples: list[Sample], stage: Decompose, options: DecomposeOptions
) -> list[Decomposition]:
    """Each page's random numbers follow from the sampler's seed and the page's own bytes."""
    seeds = [_page_seed(stage.sampler.seed, sample.page_path) for sample in samples]
    return decompose_pages(models, [sample.page() for sample in samples], seeds, options)


def _page_seed(seed: int, path: Path) -> int:
    digest = hashlib.blake2b(f"{seed} ".encode() + path.read_bytes(), digest_size=7)
    return int.from_bytes(digest.digest(), "little")


def _write(result: Decomposition, sample: Sample, folder: Path, resolution: int) -> _Page:
    target = folder / sample.name
    target.mkdir(parents=True, exist_ok=True)
    drawn = result.drawn()
    write_layer_pngs(target, {**drawn, HEAD: result.layers[HEAD]})
    psd = folder / f"{sample.name}.psd"
    write_psd(psd, drawn, (resolution, resolution))
    truth = None
    if sample.size is not None:
        truth = load_truth(sample, [*TAGS_V3, HEAD], resolution)
    return _Page(sample, result, truth, psd)


def _measure(
    stage: Decompose,
    context: StageContext,
    models: LayerDiff,
    options: DecomposeOptions,
    pages: list[_Page],
) -> tuple[dict[str, LayerScores], dict[str, CharacterScores]]:
    """Scores of the chain, the baselines and the ceiling; and of the chain for each page."""
    chain = {page.sample.name: _score(page, page.result.layers) for page in pages}
    systems = {CHAIN: _total(stage, list(chain.values()))}
    if stage.known is not None:
        known = _read_samples(stage, context.pages(stage.known))
        systems.update(_baselines(stage, known, pages))
    systems[CEILING] = _total(
        stage,
        [_score(page, reconstruct_layers(models, page.sample, options)) for page in pages],
    )
    return systems, chain


def _baselines(stage: Decompose, known: list[Sample], pages: list[_Page]) -> dict[str, LayerScores]:
    tags = [*TAGS_V3, HEAD]
    truths = (load_truth(sample, tags, stage.resolution) for sample in known)
    mean = mean_layers((truth.layers for truth in truths), tags)
    nearest = NearestCharacter(load_truth(sample, (), stage.resolution).page for sample in known)
    nearest_layers = [
        load_truth(known[nearest.index(_page_truth(page).page)], tags, stage.resolution).layers
        for page in pages
    ]
    return {
        MEAN: _total(stage, [_score(page, mean) for page in pages]),
        NEAREST: _total(
            stage,
            [_score(page, layers) for page, layers in zip(pages, nearest_layers, strict=True)],
        ),
    }


def _page_truth(page: _Page) -> Truth:
    assert page.truth is not None
    return page.truth


def _score(page: _Page, layers: Mapping[str, Image8]) -> CharacterScores:
    truth = _page_truth(page)
    drawn = [layers[tag] for tag in drawing_order(layers, DRAWING_ORDER)]
    recomposition = flatten(drawn, truth.page.shape[:2]).straight()
    return score_character(layers, truth, TAGS_V3, recomposition)


def _total(stage: Decompose, scores: list[CharacterScores]) -> LayerScores:
    metrics = LayerMetrics(TAGS_V3, stage.big_tags)
    for score in scores:
        metrics.update(score)
    return metrics.compute()


def _report(
    path: Path,
    stage: Decompose,
    pages: list[_Page],
    systems: dict[str, LayerScores],
    scores: dict[str, CharacterScores],
) -> None:
    characters = [
        ReportedCharacter(
            name=page.sample.name,
            page=page.result.page,
            layers=page.result.drawn(),
            recomposition=page.result.recomposition(),
            truth=page.truth,
            scores=scores.get(page.sample.name),
            psd=page.psd.relative_to(path.parent).as_posix(),
        )
        for page in pages
    ]
    write_report(
        path,
        title="Decomposition",
        introduction=f"{len(pages)} pages, taken apart into layers.",
        characters=characters,
        facts={
            "canvas": f"{stage.resolution} x {stage.resolution} px",
            "denoising steps": str(stage.sampler.steps),
            "seed": str(stage.sampler.seed),
        },
        systems=systems,
    )
