"""The decomposition stage: pages in, PNG layers, PSDs and a report out, measured where possible."""

import hashlib
import json
from pathlib import Path

import attrs
import torch
from torch import nn

from seethrough.data.layout import Sample, read_sample
from seethrough.data.pictures import read_picture
from seethrough.data.shards import read_bytes
from seethrough.data.tags import HEAD
from seethrough.errors import InputError
from seethrough.inference.composite import Image8, place
from seethrough.inference.decompose import DecomposeOptions, LayerDiff, decompose_pages
from seethrough.inference.decomposition import Decomposition
from seethrough.inference.flow import unet_flow
from seethrough.inference.memory import WHOLE, MemoryMode
from seethrough.inference.psd import write_layer_pngs, write_psd
from seethrough.inference.report import ReportedCharacter, report_character, write_report
from seethrough.inference.sampling import Solver
from seethrough.metrics.layers import LayerScores
from seethrough.metrics.table import comparison_table
from seethrough.models import UNetFrameConditionModel
from seethrough.models.checkpoints import load_model, unet_folder
from seethrough.models.text_table import cached_captions, encode_captions
from seethrough.recipes.layerdiff import Decompose
from seethrough.tasks.decompose_scores import Comparison
from seethrough.tasks.latents import load_transparent_vae, load_vae
from seethrough.tasks.task import StageContext, StageResult

LAYERS = "layers"
"""Name of the folder with the layers."""


def decompose_stage(stage: Decompose, context: StageContext) -> StageResult:
    """Decompose all pages; print the paths of the PSDs and the report, and the table of scores.

    A page's files are written as soon as it is done, and only its numbers and thumbnails kept.
    """
    samples = _read_samples(stage, context.pages(stage.pages))
    _check_names(samples)
    dtype = torch.bfloat16 if stage.precision == "bf16" else torch.float32
    models = load_layerdiff(
        context.path(stage.unet),
        context.path(stage.base),
        context.path(stage.transparent_vae),
        context.device,
        dtype,
    )
    options = DecomposeOptions(
        resolution=stage.resolution,
        steps=stage.sampler.steps,
        solver=Solver(
            prediction_type=stage.prediction_type,
            timestep_spacing=stage.sampler.timestep_spacing,
        ),
        shared_init_noise=stage.sampler.shared_noise,
        crop_to=stage.crop_to,
        head_pass=stage.head_pass,
        decode_passes=8 if stage.averaged_decode else 1,
        page_batch=stage.pages_at_once,
        decode_batch=stage.pages_at_once,
    )
    comparison = _comparison(stage, context, models, options, samples)
    characters: list[ReportedCharacter] = []
    for start in range(0, len(samples), stage.pages_at_once):
        chunk = samples[start : start + stage.pages_at_once]
        characters += _decompose(chunk, stage.sampler.seed, context, models, options, comparison)
    systems: dict[str, LayerScores] = {}
    metrics: dict[str, float] = {}
    if comparison is not None:
        systems = comparison.systems()
        metrics = _metrics(systems) | {"true_layers_difference": comparison.difference}
        (context.directory / "scores.json").write_text(
            json.dumps({name: attrs.asdict(value) for name, value in systems.items()}, indent=1)
        )
        context.report(comparison_table(systems))
        context.report(
            f"{context.name}: true layers over each other differ from their page by at most "
            f"{comparison.difference:.2f} of 255"
        )
    report = context.directory / "report.html"
    _write_report(report, stage, characters, systems)
    context.report(f"{context.name}: {report}")
    return StageResult({"layers": context.directory / LAYERS, "report": report}, metrics)


def load_layerdiff(
    unet: Path,
    base: Path,
    transparent_vae: Path,
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
    text_cache: Path | None = None,
    memory: MemoryMode = WHOLE,
) -> LayerDiff:
    """The networks of a decomposition; the text encoders have encoded the tags and are gone.

    Each folder may be a published repository in the hub's layout, all three the same one.

    Args:
        unet: a 3D UNet, or a folder with the subfolder `unet`.
        base: a folder with `vae`, `text_encoder`, `text_encoder_2` and their tokenizers.
        transparent_vae: a TransparentVAE, a folder with the subfolder `trans_vae`, or
            LayerDiffuse's two files.
        device: where to compute.
        dtype: type of all networks but the text encoders.
        text_cache: folder in which the tags' embeddings are kept from one process to the next;
            None keeps none.
        memory: how they use less memory than they have.

    Raises:
        InputError: when a part is missing or broken, or the UNet fits no published flow.
    """
    folder = unet_folder(unet)
    network = load_model(UNetFrameConditionModel, folder)
    config_file = str(folder / "config.json")
    tags = [tag for group in unet_flow(network, config_file).groups for tag in group]
    if text_cache is None:
        text = encode_captions(base, tags, device)
    else:
        text = cached_captions(text_cache, base, tags, device)
    text = text.to(device)
    vae, trans_vae = load_vae(base), load_transparent_vae(transparent_vae)
    memory.place(network, vae, device, dtype)
    nn.Module.to(trans_vae, device, dtype)
    return LayerDiff(network, vae, trans_vae, text, config_file)


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


def _comparison(
    stage: Decompose,
    context: StageContext,
    models: LayerDiff,
    options: DecomposeOptions,
    samples: list[Sample],
) -> Comparison | None:
    """What measures the pages; None if the truth is known of none."""
    if all(sample.size is None for sample in samples):
        return None
    known = None
    if stage.known is not None:
        known = _read_samples(stage, context.pages(stage.known))
    return Comparison(models, options, stage.big_tags, known)


def _decompose(
    samples: list[Sample],
    seed: int,
    context: StageContext,
    models: LayerDiff,
    options: DecomposeOptions,
    comparison: Comparison | None,
) -> list[ReportedCharacter]:
    """Decompose pages at once and write their files; of the pictures thumbnails alone are kept."""
    seeds = [page_seed(seed, sample.page_path) for sample in samples]
    pages = [_read_page(sample) for sample in samples]
    characters: list[ReportedCharacter] = []
    for sample, result in zip(samples, decompose_pages(models, pages, seeds, options), strict=True):
        psd = _write(result, context.directory / LAYERS, sample.name)
        context.report(f"{context.name}: {psd}" + (f" ({result.note})" if result.note else ""))
        link = psd.relative_to(context.directory).as_posix()
        characters.append(_character(result, sample, comparison, link))
    return characters


def _read_page(sample: Sample) -> Image8:
    """The page as its dataset reads it, or, without annotation, a picture of any kind."""
    return read_picture(sample.page_path) if sample.size is None else sample.page()


def page_seed(seed: int, path: Path) -> int:
    """Each page's random numbers follow from the sampler's seed and the page's own bytes."""
    digest = hashlib.blake2b(f"{seed} ".encode() + read_bytes(path), digest_size=7)
    return int.from_bytes(digest.digest(), "little")


def _write(result: Decomposition, folder: Path, name: str) -> Path:
    """Write the layers as `<name>/<tag>.png` and as `<name>.psd`, whose path is returned."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    drawn = result.drawn()
    beside = {HEAD: result.layers[HEAD]} if HEAD in result.layers else {}
    write_layer_pngs(target, {**drawn, **beside})
    psd = folder / f"{name}.psd"
    height, width = result.page.shape[:2]
    write_psd(psd, place(drawn), (height, width))
    return psd


def _character(
    result: Decomposition, sample: Sample, comparison: Comparison | None, psd: str
) -> ReportedCharacter:
    """Measure a page where the truth is known, and keep what the report shows of it."""
    truth = scores = None
    if comparison is not None and sample.size is not None:
        truth = comparison.truth(sample)
        scores = comparison.add(sample, truth, result.layers)
    return report_character(
        name=sample.name,
        page=result.page,
        layers=result.drawn(),
        recomposition=result.recomposition(),
        truth=truth,
        scores=scores,
        note=result.note,
        psd=psd,
    )


def metric_name(system: str, measure: str) -> str:
    """What the stage's metrics call a measure of one of the compared systems."""
    return f"{system.replace(' ', '_')}_{measure}"


def _metrics(systems: dict[str, LayerScores]) -> dict[str, float]:
    return {
        metric_name(name, measure): value
        for name, result in systems.items()
        for measure, value in result.overall.items()
        if value is not None
    }


def _write_report(
    path: Path,
    stage: Decompose,
    characters: list[ReportedCharacter],
    systems: dict[str, LayerScores],
) -> None:
    write_report(
        path,
        title="Decomposition",
        introduction=f"{len(characters)} pages, taken apart into layers.",
        characters=characters,
        facts={
            "canvas": f"{stage.resolution} x {stage.resolution} px",
            "denoising steps": str(stage.sampler.steps),
            "seed": str(stage.sampler.seed),
        },
        systems=systems,
    )
