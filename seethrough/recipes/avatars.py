"""Models of the embedded characters: both families, from new weights, at a size that a CPU learns.

The stages are those of the published chains. What these take from the hub is made by stages in
front: samples, an autoencoder, and bases around it.
"""

from collections.abc import Iterator

from seethrough.data.tags import TAGS_V2
from seethrough.recipe import Output, Source, change, recipe
from seethrough.recipes.autoencoder import LayerVaeTrain
from seethrough.recipes.inflate import Inflate
from seethrough.recipes.layerdiff import (
    Decompose,
    LayerDiff2DData,
    LayerDiff2DModel,
    LayerDiff2DTrain,
    LayerDiff3DData,
    LayerDiff3DModel,
    LayerDiff3DTrain,
    check_layer_stages,
)
from seethrough.recipes.marigold import (
    DepthFrames,
    Marigold2DData,
    Marigold2DModel,
    Marigold2DTrain,
    Marigold3DData,
    Marigold3DModel,
    Marigold3DTrain,
    OrderLayers,
    check_depth_stages,
)
from seethrough.recipes.objective import Objective, Objective3D
from seethrough.recipes.pack import Pack
from seethrough.recipes.small_base import SmallBase, SmallMarigold
from seethrough.recipes.stand_ins import (
    BASE,
    TEST_LIST,
    TRAIN_LIST,
    TRANSPARENT_VAE,
    UNTRACKED,
    VAE,
    DrawnSamples,
    small_depth_vae,
)
from seethrough.recipes.training import Device, Hardware, Schedule
from seethrough.recipes.transparent_vae import (
    TransparentVaeData,
    TransparentVaeLoss,
    TransparentVaeModel,
    TransparentVaeTrain,
)

DEPTH_BASE: Source = Output("depth_base", "base")
DECODED_VAE: Source = Output("decoders", "vae")
DECODED_TRANSPARENT_VAE: Source = Output("decoders", "transparent_vae")

SCHEDULE: Schedule = change(
    Schedule, checkpoint_every=500, keep_checkpoints=1, pictures_every=None, log_every=50
)
HARDWARE: Hardware = change(
    Hardware,
    device="cpu",
    processes=2,
    threads=1,
    channels_last=True,
    loader_workers=0,
    gradient_checkpointing=False,
)
FRAMES: DepthFrames = change(DepthFrames, absent=False, transparent="gray", beyond="nearest")
"""Flat colours are told apart by where a layer ends, and a small autoencoder keeps the depth of
thin layers only if it goes on around them."""
ONE_PROCESS: Device = change(Device, device="cpu", threads=2)
"""What all stages have in common that take minutes on two cores."""


@recipe
class AvatarsChain(DrawnSamples):
    """Layers and depth of drawn characters: data, autoencoder, both families in 2D and 3D.

    Pictures show the whole character as it was drawn, so that each is encoded once.
    """

    decoders: TransparentVaeTrain = change(
        TransparentVaeTrain,
        model=change(
            TransparentVaeModel, vae=VAE, transparent_vae=TRANSPARENT_VAE, learn="decoders"
        ),
        data=change(
            TransparentVaeData,
            sources=((TRAIN_LIST, 1),),
            page_probability=0.1,
            silhouette_probability=0.25,
            empty_probability=0.1,
            crop_to="character",
            random_pad=0.0,
        ),
        loss=change(TransparentVaeLoss, kl=0.0, identity=0.0),
        schedule=SCHEDULE,
        hardware=HARDWARE,
        tracking=UNTRACKED,
    )
    """Trains the decoders further, on what they saw little of: silhouettes, and nothing."""

    base: SmallBase = change(SmallBase, vae=DECODED_VAE)
    """Makes the base of the model of layers."""

    train_2d: LayerDiff2DTrain = change(
        LayerDiff2DTrain,
        model=change(
            LayerDiff2DModel, base=BASE, unet_delta=None, transparent_vae=DECODED_TRANSPARENT_VAE
        ),
        data=change(
            LayerDiff2DData,
            sources=((TRAIN_LIST, 1),),
            crop_to="character",
            random_pad=0.0,
            random_flip=0.0,
            cache_latents=True,
        ),
        objective=change(Objective, posterior="mean", offset_probability=0.0),
        schedule=SCHEDULE,
        hardware=HARDWARE,
        tracking=UNTRACKED,
    )
    """Trains the model of layers in 2D."""

    inflate: Inflate = Inflate()
    """Converts it to 3D."""

    train_3d: LayerDiff3DTrain = change(
        LayerDiff3DTrain,
        model=change(LayerDiff3DModel, base=BASE, transparent_vae=DECODED_TRANSPARENT_VAE),
        data=change(
            LayerDiff3DData,
            sources=((TRAIN_LIST, 1),),
            crop_to="character",
            random_pad=0.0,
            random_flip=0.0,
            cache_latents=True,
        ),
        objective=change(Objective3D, posterior="mean", offset_probability=0.0),
        schedule=SCHEDULE,
        hardware=HARDWARE,
        tracking=UNTRACKED,
    )
    """Trains the model of layers in 3D."""

    decompose: Decompose = change(
        Decompose,
        base=BASE,
        transparent_vae=DECODED_TRANSPARENT_VAE,
        pages=TEST_LIST,
        known=TRAIN_LIST,
        crop_to="character",
        head_pass="body",
        pages_at_once=16,
        hardware=ONE_PROCESS,
    )
    """Takes pages of characters apart that were not trained on, and measures their layers."""

    depth_vae: LayerVaeTrain = small_depth_vae()
    """Trains the autoencoder of depth, from new weights."""

    depth_base: SmallMarigold = change(SmallMarigold, vae=Output("depth_vae", "vae"))
    """Makes the base of the model of depth."""

    depth_2d: Marigold2DTrain = change(
        Marigold2DTrain,
        model=change(Marigold2DModel, base=DEPTH_BASE),
        data=change(
            Marigold2DData,
            sources=((TRAIN_LIST, 1),),
            crop_to="character",
            random_flip=0.0,
            random_crop=0.0,
            random_hsv=0.0,
            transparent="gray",
            beyond="nearest",
            cache_latents=True,
        ),
        schedule=SCHEDULE,
        hardware=HARDWARE,
        tracking=UNTRACKED,
    )
    """Trains the model of depth in 2D."""

    depth_inflate: Inflate = change(
        Inflate,
        unet=Output("depth_2d", "unet"),
        tag_version="v2",
        group_embedding=False,
        group_sizes=(len(TAGS_V2) + 1,),
    )
    """Converts it to 3D."""

    depth_3d: Marigold3DTrain = change(
        Marigold3DTrain,
        model=change(Marigold3DModel, unet=Output("depth_inflate", "unet"), base=DEPTH_BASE),
        data=change(
            Marigold3DData,
            sources=((TRAIN_LIST, 1),),
            groups=(TAGS_V2,),
            crop_tags=(),
            frames=FRAMES,
            crop_to="character",
            random_pad=0.0,
            random_flip=0.0,
            cache_latents=True,
        ),
        schedule=SCHEDULE,
        hardware=HARDWARE,
        tracking=UNTRACKED,
    )
    """Trains the model of depth in 3D, on all frames at a time, as it is used."""

    depth_order: OrderLayers = change(
        OrderLayers,
        unet=Output("depth_3d", "unet"),
        base=DEPTH_BASE,
        pages=TEST_LIST,
        known=TRAIN_LIST,
        crop_to="character",
        frames=FRAMES,
        hardware=ONE_PROCESS,
    )
    """Puts layers of characters in drawing order that were not trained on, and measures that."""

    pack: Pack = Pack()
    """Writes both models as they are shipped."""

    def check(self) -> Iterator[tuple[str, str]]:
        yield from check_layer_stages(self)
        yield from check_depth_stages(
            self.depth_2d,
            self.depth_inflate,
            self.depth_3d,
            self.depth_order,
            names=("depth_2d", "depth_inflate", "depth_3d"),
        )
