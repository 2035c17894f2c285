"""Keys of the training of part segmentation."""

from typing import Any

from seethrough.data.part_tags import FACE_CLASSES
from seethrough.data.tags import TAGS_V1, TAGS_V2, TAGS_V3
from seethrough.import_yaml.common import COMMON, DEFAULTS, MEASURED, PICTURES
from seethrough.import_yaml.rules import Beside, By, Import, Layout, To, Without, source, words
from seethrough.recipe import Local, RecipeError
from seethrough.recipe.errors import nearest
from seethrough.recipes.partseg import PartSegChain

SAMS = {
    "h_hq": "sam_hq_vit_h.pth",
    "l_hq": "sam_hq_vit_l.pth",
    "b_hq": "sam_hq_vit_b.pth",
    "h": "sam_vit_h_4b8939.pth",
    "l": "sam_vit_l_0b3195.pth",
    "b": "sam_vit_b_01ec64.pth",
}
"""Published weights of SAM-HQ and of SAM by the program's name for them."""

TAGS = {19: TAGS_V2, 20: TAGS_V1, 23: TAGS_V3, 24: ("foreground", *TAGS_V3)}
"""Classes by their number: the program puts one of all masks in front where it has one too many."""


def sam(made: Import, name: Any) -> None:
    if name not in SAMS:
        raise RecipeError(f"{name!r} is no SAM; {nearest(str(name), SAMS)}")
    if made.get("init_from_ckpt") is None:
        made.put("model.sam", Local(SAMS[name]))


def checkpoint(made: Import, path: Any) -> None:
    if path is not None:
        made.put("model.partseg", source(path))
        made.put("model.sam", None)


def classes(made: Import, names: Any) -> None:
    """The dataset's tags, or those that its number of classes means."""
    count = made.get("dataset_args.class_num")
    if names is not None:
        tags = words(names)
        if count == len(tags) + 1:
            tags = ("foreground", *tags)
    elif count in TAGS:
        tags = TAGS[count]
        if count == len(FACE_CLASSES):
            made.open["dataset_args.class_num"] = (
                f"{count} classes are taken for the tags of V2: if its labels are of face parsing,"
                " train.data.tags are FACE_CLASSES of seethrough/data/part_tags.py"
            )
    else:
        raise RecipeError(f"dataset_args.class_num is {count}: give dataset_args.tag_list with it")
    made.put("data.tags", tags)
    of_model = made.get("model_args.class_num")
    if of_model != len(tags):
        made.open["model_args.class_num"] = (
            f"{of_model} classes, but the dataset has {len(tags)}: the model has the dataset's"
        )


def skip(made: Import, labels: Any) -> None:
    if labels:
        made.open["dataset_args.skip_labels"] = f"{labels}: take them out of train.data.tags"


def loss(made: Import, name: Any) -> None:
    if name != "samhq":
        raise RecipeError(f"{name!r}: the only loss is samhq")


PARTSEG = Layout(
    "part segmentation",
    PartSegChain,
    "train",
    {
        **COMMON,
        **MEASURED,
        **PICTURES,
        "init_from_ckpt": By(checkpoint),
        "loss_type": By(loss),
        "model_args.model_type": By(sam),
        "model_args.class_num": Beside("dataset_args.tag_list"),
        "model_args.mask_decoder": To("model.mask_decoder"),
        "model_args.fix_img_en": To("model.freeze_image_encoder"),
        "model_args.fix_prompt_en": To("model.freeze_prompt_encoder"),
        "model_args.fix_mask_de": To("model.freeze_mask_decoder"),
        "optimizer_args.muon_lr": Without("a recipe has AdamW"),
        "optimizer_args.adam_lr": Without("a recipe has AdamW"),
        "dataset_args.tag_list": By(classes),
        "dataset_args.class_num": Beside("dataset_args.tag_list"),
        "dataset_args.skip_labels": By(skip),
        "dataset_args.random_crop": To("data.random_crop"),
        "dataset_args.random_crop_ratio": To("data.random_crop_ratio"),
        "dataset_args.random_hsv": To("data.random_hsv"),
        "dataset_args.random_downscale": To("data.random_downscale"),
        "dataset_args.downscale_sizes": To("data.downscale_sizes", tuple),
    },
    {
        **DEFAULTS,
        "model_args.mask_decoder": "mlp_variant",
        "model_args.fix_img_en": False,
        "model_args.fix_prompt_en": False,
        "model_args.fix_mask_de": False,
        "dataset_args.tag_list": None,
        "dataset_args.target_size": 1024,
        "dataset_args.random_flip": 0.0,
        "dataset_args.random_crop": 0.0,
        "dataset_args.random_crop_ratio": 0.3,
        "dataset_args.random_hsv": 0.0,
        "dataset_args.random_downscale": 0.0,
    },
)
