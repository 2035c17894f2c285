"""Weights of `SemanticSam`: read from published files and ours, and started from those of a SAM.

A file says itself what it is: sizes, kind of decoder and number of classes follow from its shapes.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from seethrough.data.tags import STORED_MASK_ORDER, TAGS_V2, TAGS_V3
from seethrough.errors import InputError
from seethrough.models.checkpoints import cast, load_into, read_json, read_state_dict
from seethrough.models.semantic_sam import (
    MASK_TOKEN,
    ImageAdapter,
    MaskDecoderHQ,
    MaskDecoderVariant,
    PromptAdapter,
    SamArchitecture,
    SemanticSam,
    TwoWayTransformer,
)
from seethrough.models.torch_files import TORCH_SUFFIXES, read_torch_file

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""Files of a trained model of ours."""

PUBLISHED_TAGS = {len(tags): tags for tags in (TAGS_V2, TAGS_V3, STORED_MASK_ORDER)}
"""Names of the classes by their number, for files that don't name them: the published program
learns masks in the order in which they are stored."""

_IMAGE, _PROMPT, _DECODER, _HEADS = (
    "img_adapter.sam_img_encoder.",
    "prompt_adapter.sam_prompt_encoder.",
    "mask_adapter.sam_mask_decoder.",
    "mask_adapter.",
)


def load_semantic_sam(
    path: str | Path, dtype: torch.dtype | None = None, **frozen: bool
) -> SemanticSam:
    """A trained model, in eval mode, on the CPU.

    Args:
        path: a published file (`checkpoint-<step>.pt`), a safetensors file with the same keys, or
            a folder that `save_semantic_sam` wrote.
        dtype: what to cast the weights to; None keeps the file's.
        frozen: flags of `SemanticSam` that freeze parts.

    Raises:
        InputError: when it can't be read, is refused, or parts of the model are missing.
    """
    state = _read(path)
    tokens = state.get(f"{_HEADS}sem_mask_tokens.weight")
    classes = _count(state, rf"{_HEADS}output_hypernetworks_mlps\.(\d+)\.")
    if tokens is None and not classes:
        raise InputError(
            f"{path}: has no masks of classes ('{_HEADS}...'), so it is no SemanticSam; it begins"
            f" with {next(iter(state), 'nothing')!r}"
        )
    with torch.device("meta"):
        model = SemanticSam(
            classes if tokens is None else len(tokens),
            model_type=architecture_of(state, path, _IMAGE, _DECODER),
            mask_decoder="mlp_variant" if tokens is None else "token_variant",
            **frozen,
        )
    load_into(model, cast(state, dtype), path)
    return model.eval()


def read_tags(path: str | Path, model: SemanticSam) -> tuple[str, ...]:
    """What the classes of a loaded model are called.

    Raises:
        InputError: when the file doesn't say, and their number is none of the published, or when it
            names another number of them.
    """
    config = Path(path) / CONFIG
    if config.is_file():
        tags = tuple(map(str, read_json(config).get("tags", ())))
        if len(tags) != model.class_num:
            raise InputError(
                f"{config}: names {len(tags)} tags, but the model has {model.class_num} classes"
            )
        return tags
    if model.class_num not in PUBLISHED_TAGS:
        numbers = ", ".join(map(str, PUBLISHED_TAGS))
        raise InputError(
            f"{path}: has {model.class_num} classes and doesn't name them; the published ones"
            f" have {numbers}. Put it into a folder as {WEIGHTS}, with a {CONFIG} of their tags"
        )
    return PUBLISHED_TAGS[model.class_num]


def save_semantic_sam(model: SemanticSam, tags: tuple[str, ...], folder: Path) -> None:
    """Write the weights under their published keys, and beside them the names of the classes."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    config = {"_class_name": type(model).__name__, "tags": tags}
    (folder / CONFIG).write_text(json.dumps(config, indent=1))


def semantic_sam_from_sam(
    path: str | Path, class_num: int, mask_decoder: MaskDecoderVariant, **frozen: bool
) -> SemanticSam:
    """A model to train that starts from a SAM: each class with the same head, SAM's.

    Args:
        path: a file with SAM's own keys, of `torch.save` or safetensors; of SAM-HQ or without.
        class_num: how many classes.
        mask_decoder: what each class has of its own.
        frozen: flags of `SemanticSam` that freeze parts.

    Raises:
        InputError: when it can't be read, is refused, or is no SAM.
    """
    state = _read(path)
    architecture = architecture_of(state, path, "image_encoder.", "mask_decoder.")
    model = SemanticSam(class_num, model_type=architecture, mask_decoder=mask_decoder, **frozen)
    load_into(model, _started(state, model), path)
    return model


def save_new_sam(path: Path, architecture: SamArchitecture, seed: int) -> None:
    """Write a SAM-HQ of new weights, under SAM's own keys."""
    width = architecture.decoder_width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = nn.ModuleDict(
            {
                "image_encoder": ImageAdapter(architecture).sam_img_encoder,
                "prompt_encoder": PromptAdapter(architecture).sam_prompt_encoder,
                "mask_decoder": MaskDecoderHQ(
                    transformer_dim=width,
                    transformer=TwoWayTransformer(
                        depth=2,
                        embedding_dim=width,
                        mlp_dim=architecture.decoder_mlp_width,
                        num_heads=8,
                    ),
                    vit_dim=architecture.width,
                ),
            }
        )
    state = {key: value.contiguous() for key, value in parts.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})


def architecture_of(
    state: Mapping[str, Tensor], path: str | Path, image: str, decoder: str
) -> SamArchitecture:
    """The sizes that shapes tell; `image` and `decoder` are what the keys of these begin with.

    Raises:
        InputError: when a tensor that tells one is missing.
    """
    try:
        patches = state[f"{image}patch_embed.proj.weight"]
        grid = state[f"{image}pos_embed"].shape[1]
        depth = _count(state, rf"{image}blocks\.(\d+)\.")
        # A table of relative positions along one axis has an entry for each distance.
        tables = [state[f"{image}blocks.{block}.attn.rel_pos_h"] for block in range(depth)]
        reaches = [(len(table) + 1) // 2 for table in tables]
        hidden = state[f"{decoder}transformer.layers.0.mlp.lin1.weight"]
        head_width = tables[0].shape[1]
    except (KeyError, IndexError) as missing:
        raise InputError(
            f"{path}: lacks {missing} of a SAM: give a whole file of SAM or SAM-HQ weights"
        ) from missing
    return SamArchitecture(
        width=patches.shape[0],
        depth=depth,
        heads=patches.shape[0] // head_width,
        global_blocks=tuple(block for block, reach in enumerate(reaches) if reach == grid),
        hq=f"{decoder}embedding_encoder.0.weight" in state,
        image_size=grid * patches.shape[-1],
        patch_size=patches.shape[-1],
        window_size=next((reach for reach in reaches if reach != grid), grid),
        decoder_width=hidden.shape[1],
        decoder_mlp_width=hidden.shape[0],
    )


def _started(sam: Mapping[str, Tensor], model: SemanticSam) -> dict[str, Tensor]:
    """SAM's weights by the model's keys; a head or token that classes start from, for each."""
    per_class_mlps, classes = model.mask_decoder == "mlp_variant", model.class_num
    state: dict[str, Tensor] = {}
    for key, value in sam.items():
        part, _, name = key.partition(".")
        if part != "mask_decoder":
            state[{"image_encoder": _IMAGE, "prompt_encoder": _PROMPT}.get(part, part) + name] = (
                value
            )
            continue
        head, _, rest = name.partition(".")
        if head == "output_hypernetworks_mlps":
            number, _, rest = rest.partition(".")
            if int(number) != MASK_TOKEN:
                continue
        elif head == "mask_tokens" and not per_class_mlps:
            value = value[MASK_TOKEN : MASK_TOKEN + 1]
        if head in ("output_hypernetworks_mlps", "hf_mlp"):
            if per_class_mlps:
                own = "hf_mlps" if head == "hf_mlp" else head
                state |= {f"{_HEADS}{own}.{c}.{rest}": value for c in range(classes)}
            else:
                own = "hf_mlp" if head == "hf_mlp" else "output_hypernetworks_mlp"
                state[f"{_HEADS}{own}.{rest}"] = value
        elif head in ("mask_tokens", "hf_token") and not per_class_mlps:
            own = "sem_mask_tokens" if head == "mask_tokens" else "hq_mask_tokens"
            state[f"{_HEADS}{own}.{rest}"] = value.expand(classes, -1)
        else:
            state[_DECODER + name] = value
    return state


def _read(path: str | Path) -> dict[str, Tensor]:
    if Path(path).suffix in TORCH_SUFFIXES:
        return read_torch_file(path)
    return read_state_dict(path)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers, from 0 on, stand in keys that a pattern begins."""
    found = (re.match(pattern, key) for key in state)
    return len({match[1] for match in found if match is not None})
