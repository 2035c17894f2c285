"""Keys of the training of the transparent autoencoder."""

from collections.abc import Mapping
from typing import Any

from seethrough.import_yaml.common import COMMON, DEFAULTS, PICTURES, UNMEASURED
from seethrough.import_yaml.rules import (
    Beside,
    By,
    Import,
    Layout,
    To,
    Without,
    numbers,
    source,
    words,
)
from seethrough.recipe import RecipeError
from seethrough.recipe.errors import nearest
from seethrough.recipes.perceptual_vae import TransparentVaeChain

LEARN = {
    (True, False): "pixel_decoder",
    (False, True): "vae_decoder",
    (True, True): "decoders",
}
"""By `train_trans_decoder` and `train_vae_decoder`."""

ADVERSARIAL = {
    "disc_start": "adversarial.start_step",
    "disc_num_layers": "adversarial.layers",
    "disc_weight": "adversarial.weight",
    "disc_loss": "adversarial.loss",
    "discriminator": "adversarial.discriminator",
}
"""Arguments of the adversarial loss, and what they become."""

WITHOUT = (
    "logvar_init", "kl_weight", "pixelloss_weight", "disc_in_channels", "use_actnorm", "disc_grad",
)  # fmt: skip
"""Its arguments that it doesn't use, or that follow from the pictures."""


def base(made: Import, value: Any) -> None:
    """The autoencoder, of its own repository or of the base's."""
    given = made.get("pretrained_vae_model_name_or_path") or value
    if given is not None:
        made.put("model.vae", source(given))


def learn(made: Import, pixel_decoder: Any) -> None:
    chosen = (bool(pixel_decoder), bool(made.get("train_vae_decoder")))
    if chosen not in LEARN:
        raise RecipeError("neither decoder is to learn: set one of the two to true")
    made.put("model.learn", LEARN[chosen])


def loss(made: Import, name: Any) -> None:
    """The usual loss ignores its arguments; any other name means the adversarial one."""
    given = made.get("loss_args") or {}
    if name == "vaeloss_v2":
        if given:
            made.without["loss_args"] = "vaeloss_v2 ignores them"
        return
    if not isinstance(given, Mapping):
        raise RecipeError(f"loss_args: expected a mapping, found {given!r}")
    known = (*ADVERSARIAL, *WITHOUT, "disc_factor", "perceptual_weight")
    for key in given:
        if key not in known:
            raise RecipeError(f"loss_args.{key} is no argument of it; {nearest(key, known)}")
    for term, weight in (("argb_l1", 1.0), ("argb_mse", 0.0), ("convnext", 0.0)):
        made.put(f"loss.{term}", weight)
    made.put("loss.lpips", given.get("perceptual_weight", 1.0))
    arguments = {"disc_weight": 0.5, **given}
    for key, path in ADVERSARIAL.items():
        if key in arguments:
            made.put(path, arguments[key])
    made.put("adversarial.weight", arguments["disc_weight"] * given.get("disc_factor", 1.0))
    made.put("adversarial.lr", made.get("learning_rate"))
    for key in WITHOUT:
        if key in given:
            made.without[f"loss_args.{key}"] = "the program doesn't use it, or pictures tell it"


def reweighted(made: Import, ratio: Any) -> None:
    """1 weighs nothing; the usual loss weighs nothing at all."""
    if made.get("loss_type") == "vaeloss_v2":
        if ratio != 1:
            made.without["alpha_reweight"] = "vaeloss_v2 doesn't read it"
    else:
        made.put("loss.alpha_reweight", None if ratio == 1 else ratio)


def noisy(made: Import, probability: Any) -> None:
    """A last step of 1 leaves none to draw, whatever the probability."""
    below = made.get("noise_max_step")
    if probability and below is not None and below > 1:
        made.put("latent_noise.probability", probability)
        made.put("latent_noise.below_step", below)


def opponent_betas(made: Import, value: Any) -> None:
    made.put("adversarial.betas", numbers(value))


def off(made: Import, wanted: Any) -> None:
    if wanted:
        raise RecipeError("has no counterpart: set it to false or 0")


def page_condition(made: Import, wanted: Any) -> None:
    if wanted:
        raise RecipeError(
            "the program stops where it would widen the pixel decoder: set it to false"
        )


def crops(made: Import, value: Any) -> None:
    """A tag's crop is its group's box; without groups its own."""
    tags = tuple(
        words(group["tags"] if isinstance(group, Mapping) else group) for group in value or ()
    )
    made.put("data.size_groups", tags)
    made.put("data.own_box", not tags)


def composite(made: Import, path: Any) -> None:
    if path is not None:
        made.open["pretrained_vae"] = (
            "a combined checkpoint: `python -m seethrough.checkpoint convert` makes the folders "
            "for train.model.vae and train.model.transparent_vae"
        )


TRANSPARENT_VAE = Layout(
    "the transparent autoencoder",
    TransparentVaeChain,
    "train",
    {
        **COMMON,
        **UNMEASURED,
        **PICTURES,
        "pretrained_model_name_or_path": By(base),
        "pretrained_vae_model_name_or_path": Beside("pretrained_model_name_or_path"),
        "pretrained_vae": By(composite),
        "pretrained_ckpt": Without("the program loads a path of its own, whatever this says"),
        "train_trans_decoder": By(learn),
        "train_vae_decoder": Beside("train_trans_decoder"),
        "loss_type": By(loss),
        "loss_args": Beside("loss_type"),
        "alpha_reweight": By(reweighted),
        "noise_prob": By(noisy),
        "noise_max_step": Beside("noise_prob"),
        "optimizer_D_args.betas": By(opponent_betas),
        "optimizer_D_args.weight_decay": To("adversarial.weight_decay"),
        "optimizer_D_args.eps": Without("the discriminator's optimizer has the usual one"),
        "model_args": Without("the program doesn't read it"),
        "dataset_args.random_pad_prob": To("data.random_pad"),
        "dataset_args.fullpage_prob": To("data.page_probability"),
        "dataset_args.rgb_prob": By(off),
        "dataset_args.load_rgb_cond": By(page_condition),
        "dataset_args.random_rotate_prob": Without("the program turns pictures and discards them"),
        "dataset_args.random_crop": Without("the program doesn't read it"),
        "dataset_args.load_all": Without("the program doesn't read it"),
        "dataset_args.pad_argb": Without("colour is always filled where the network computes"),
        "dataset_args.mix_tag_groups": By(crops),
    },
    {
        **DEFAULTS,
        "train_trans_decoder": True,
        "loss_type": "vaeloss_v2",
        "dataset_args.target_size": 1024,
        "dataset_args.random_flip": 0.0,
        "dataset_args.random_pad_prob": 0.0,
        "dataset_args.fullpage_prob": 0.1,
        "dataset_args.mix_tag_groups": None,
    },
)
