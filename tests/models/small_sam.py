"""A SAM of 64 px that a test has at once."""

import torch

from seethrough.models.semantic_sam import SamArchitecture, SemanticSam

SMALL = SamArchitecture(
    width=16,
    depth=2,
    heads=2,
    global_blocks=(1,),
    image_size=64,
    patch_size=8,
    window_size=4,
    decoder_width=32,
    decoder_mlp_width=32,
)


def small_model(class_num: int = 3, seed: int = 0, **options: object) -> SemanticSam:
    """A model of new weights, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SemanticSam(class_num, **{"model_type": SMALL, **options}).eval()  # pyright: ignore[reportArgumentType]
