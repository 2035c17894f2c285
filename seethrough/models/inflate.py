"""Inflation of a 2D UNet into the 3D one, with an account of every tensor and a proof of equality.

The 3D network keeps all tensors of the 2D one under their names; its temporal blocks and group
embeddings are new, and begin as an identity. A source that is 3D already (a warm start) keeps
what its temporal blocks and group embeddings learned.
"""

import copy
import enum
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from seethrough.models.checkpoints import (
    cast,
    empty_model,
    load_into,
    read_config,
    read_state_dict,
    unet_folder,
)
from seethrough.models.unet_frame_condition import (
    SPATIAL_BLOCK,
    CrossFrameTransformerBlock,
    GroupEmbedding,
    UNetFrameConditionModel,
)

CROSS_FRAME_BLOCK = {spatial: cross_frame for cross_frame, spatial in SPATIAL_BLOCK.items()}


class Verdict(enum.StrEnum):
    """What became of one tensor."""

    COPIED = "copied"
    ZERO = "new and zero"
    INITIALISED = "new and initialised"
    DROPPED = "dropped"


@attrs.frozen
class AuditRow:
    """One tensor of the source or of the target."""

    key: str
    verdict: Verdict
    shape: tuple[int, ...]


@attrs.frozen
class InflationReport:
    """What an inflation did with every tensor, and the proof that it changed nothing."""

    source: str
    warm_start: bool
    """The source was a 3D network already."""
    rows: tuple[AuditRow, ...]
    max_difference: float
    """Largest absolute difference between the outputs of target and source on random inputs."""

    def counts(self) -> dict[Verdict, int]:
        """Tensors per verdict."""
        found = Counter(row.verdict for row in self.rows)
        return {verdict: found[verdict] for verdict in Verdict}

    def table(self) -> str:
        """Tab-separated rows of key, verdict and shape, under a header."""
        lines = ["key\tverdict\tshape"]
        lines += [f"{r.key}\t{r.verdict}\t{'x'.join(map(str, r.shape))}" for r in self.rows]
        return "\n".join(lines) + "\n"


def inflate(
    source: str | Path,
    target: str | Path,
    *,
    group_embedding: bool = True,
    group_embedding_num: Sequence[int] = (13, 11),
    tag_version: str = "v3",
    dtype: torch.dtype | None = None,
    seed: int = 0,
    tolerance: float = 0.0,
) -> InflationReport:
    """Write the 3D form of a UNet to `target`, with its audit as `inflation.tsv`.

    Args:
        source: a UNet's folder, or one with the subfolder `unet`; weights whole or sharded.
        target: the folder to write.
        group_embedding: give the 3D network group embeddings.
        group_embedding_num: frames of each tag group.
        tag_version: the decomposition flow that the config announces: "v2" or "v3".
        dtype: dtype of the target; None keeps the source's.
        seed: of the new tensors and of the inputs of the proof.
        tolerance: the largest difference to accept between target and source, computed on the
            CPU in the target's dtype.

    Raises:
        InputError: when the source is incomplete, or holds a tensor that the 3D network cannot
            explain.
        RuntimeError: when the target computes something else than its source.
    """
    folder = unet_folder(source)
    source_config = {k: v for k, v in read_config(folder).items() if not k.startswith("_")}
    config = {
        **_cross_frame_config(source_config),
        "group_embedding": group_embedding,
        "group_embedding_num": list(group_embedding_num),
        "tag_version": tag_version,
    }
    state = cast(read_state_dict(folder), dtype)
    model = empty_model(UNetFrameConditionModel, config, folder)
    rows = _fill(model, state, seed, folder)
    max_difference = _difference(model.eval(), source_config, state, folder, seed)
    if not max_difference <= tolerance:
        raise RuntimeError(
            f"{folder}: the 3D network differs from its source by {max_difference} (tolerance "
            f"{tolerance}); nothing was written"
        )
    report = InflationReport(
        source=str(folder),
        warm_start=any(map(_is_temporal, state)),
        rows=tuple(rows),
        max_difference=max_difference,
    )
    model.save_pretrained(target)
    (Path(target) / "inflation.tsv").write_text(report.table())
    return report


def _cross_frame_config(config: dict[str, Any]) -> dict[str, Any]:
    def cross_frame(name: str) -> str:
        return CROSS_FRAME_BLOCK.get(name, name)

    inflated = dict(config)
    for key in ("down_block_types", "up_block_types"):
        if key in config:
            inflated[key] = [cross_frame(name) for name in config[key]]
    if config.get("mid_block_type"):
        inflated["mid_block_type"] = cross_frame(config["mid_block_type"])
    return inflated


def _is_temporal(key: str) -> bool:
    return ".temporal_transformer_blocks." in key


def _is_group(key: str) -> bool:
    return key.startswith(("group_embeds.", "group_embeds2."))


def _fill(
    model: UNetFrameConditionModel, state: dict[str, Tensor], seed: int, source: Path
) -> list[AuditRow]:
    """Give the model on the meta device its weights, and account for every tensor."""
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    dropped = [key for key in state if key not in expected and _is_group(key)]
    copied = {key: value for key, value in state.items() if key not in dropped}
    verdicts = dict.fromkeys(copied, Verdict.COPIED) | dict.fromkeys(dropped, Verdict.DROPPED)
    filled = dict(copied)
    dtype = next((value.dtype for value in state.values()), torch.float32)
    # Tensors are new as a kind: a source that has some of a kind must have all of it.
    for is_kind in (_is_temporal, _is_group):
        if not any(map(is_kind, state)):
            for key, (value, verdict) in _new_tensors(model, is_kind, seed).items():
                filled[key] = value.to(dtype)
                verdicts[key] = verdict
    load_into(model, filled, source)
    return [
        AuditRow(key, verdict, expected.get(key) or tuple(state[key].shape))
        for key, verdict in sorted(verdicts.items())
    ]


def _new_tensors(
    model: UNetFrameConditionModel, is_kind: Callable[[str], bool], seed: int
) -> dict[str, tuple[Tensor, Verdict]]:
    """Fresh tensors for the temporal blocks or group embeddings, a function of seed and name."""
    tensors: dict[str, tuple[Tensor, Verdict]] = {}
    for name, module in model.named_modules():
        if not isinstance(module, CrossFrameTransformerBlock | GroupEmbedding):
            continue
        if not is_kind(f"{name}."):
            continue
        new = copy.deepcopy(module).to_empty(device="cpu")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
            for part in new.modules():
                if isinstance(reset := getattr(part, "reset_parameters", None), Callable):
                    reset()
        new.init_weights()
        for leaf, value in new.state_dict().items():
            zero = leaf.startswith(new.output_layer)
            tensors[f"{name}.{leaf}"] = (value, Verdict.ZERO if zero else Verdict.INITIALISED)
    return tensors


def _difference(
    model: UNetFrameConditionModel,
    source_config: dict[str, Any],
    state: dict[str, Tensor],
    source: Path,
    seed: int,
) -> float:
    """Largest difference to the source's own network, which shares the copied tensors.

    With each tag group of the model and without one, on small latents. The 2D network takes the
    frames as its batch, so that both do the same arithmetic on the same shapes.
    """
    source_is_3d = any(map(_is_temporal, state))
    source_class = UNetFrameConditionModel if source_is_3d else UNet2DConditionModel
    reference = empty_model(source_class, source_config, source)
    load_into(reference, state, source)
    reference.eval()
    groups: list[int | None] = [None]
    if model.config["group_embedding"]:
        groups += range(len(model.config["group_embedding_num"]))
    differences = []
    for group in groups:
        inputs = _random_inputs(model, group, seed)
        with torch.no_grad():
            found = model(**inputs, group_index=group).sample
            if source_is_3d:
                kept = group if source_config.get("group_embedding") else None
                expected = reference(**inputs, group_index=kept).sample
            else:
                inputs["sample"] = inputs["sample"].flatten(0, 1)
                expected = reference(**inputs).sample.unflatten(0, found.shape[:2])
        differences.append((found.float() - expected.float()).abs().max())
    return torch.stack(differences).max().item()  # NaN if any is


def _random_inputs(model: UNetFrameConditionModel, group: int | None, seed: int) -> dict[str, Any]:
    config: Any = model.config
    frames = 3 if group is None else config.group_embedding_num[group]
    side = 2 ** len(config.block_out_channels)
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(model.dtype)

    inputs: dict[str, Any] = {
        "sample": normal(1, frames, config.in_channels, side, side),
        "timestep": 256,
        "encoder_hidden_states": normal(frames, 7, config.cross_attention_dim),
    }
    if config.addition_embed_type == "text_time":
        time_width = 6 * config.addition_time_embed_dim
        pooled = config.projection_class_embeddings_input_dim - time_width
        time_ids = torch.tensor([8.0 * side, 8.0 * side, 0, 0, 8.0 * side, 8.0 * side])
        inputs["added_cond_kwargs"] = {
            "text_embeds": normal(frames, pooled),
            "time_ids": time_ids.to(model.dtype).expand(frames, -1),
        }
    return inputs
