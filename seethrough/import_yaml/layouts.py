"""The published training programs, and which one a configuration is of."""

from collections.abc import Mapping
from typing import Any, Literal, cast

from seethrough.import_yaml.document import Document
from seethrough.import_yaml.layerdiff import LAYERDIFF_2D, LAYERDIFF_3D
from seethrough.import_yaml.marigold import DEPTH_ANYTHING, MARIGOLD_2D, MARIGOLD_3D
from seethrough.import_yaml.partseg import PARTSEG
from seethrough.import_yaml.rules import Layout
from seethrough.import_yaml.transparency import TRANSPARENCY
from seethrough.import_yaml.transparent_vae import TRANSPARENT_VAE

Program = Literal[
    "layerdiff_2d", "layerdiff_3d", "marigold_2d", "marigold_3d", "depth_anything",
    "transparent_vae", "partseg", "transparency",
]  # fmt: skip

LAYOUTS: Mapping[Program, Layout] = {
    "layerdiff_2d": LAYERDIFF_2D,
    "layerdiff_3d": LAYERDIFF_3D,
    "marigold_2d": MARIGOLD_2D,
    "marigold_3d": MARIGOLD_3D,
    "depth_anything": DEPTH_ANYTHING,
    "transparent_vae": TRANSPARENT_VAE,
    "partseg": PARTSEG,
    "transparency": TRANSPARENCY,
}

_GROUPS = {key.partition(".")[0] for key in TRANSPARENCY.rules}


def program_of(document: Document) -> Program:
    """Which program a configuration is of, by the keys that only that one has."""
    keys = set(document.flat(frozenset()))
    top = document.keys

    def has(name: str) -> bool:
        return name in keys or any(key.startswith(f"{name}.") for key in keys)

    if top <= _GROUPS and has("training"):
        return "transparency"
    if has("model_args.class_num") or _value(document, "loss_type") == "samhq":
        return "partseg"
    if has("train_trans_decoder") or has("train_vae_decoder"):
        return "transparent_vae"
    if "depthanything" in str(_value(document, "model_type")).lower():
        return "depth_anything"
    frames = has("dataset_args.mix_tag_groups") and not has("dataset_args.target_size_groups")
    family = "marigold" if has("multi_res_noise") else "layerdiff"
    return cast(Program, f"{family}_{'3d' if frames else '2d'}")


def _value(document: Document, key: str) -> Any:
    entry = document.flat(frozenset()).get(key)
    return None if entry is None else entry.value
