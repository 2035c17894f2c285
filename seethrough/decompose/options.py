"""How a model is used, as its run says."""

from __future__ import annotations

import attrs

from seethrough.data.depth import Transparent
from seethrough.engine.trained import Trained, stage_config
from seethrough.inference.decompose import DecomposeOptions
from seethrough.inference.marigold import DepthNoise, DepthOptions
from seethrough.inference.sampling import Solver

FILE = "decompose.json"
"""In an exported model's folder; published repositories have none, and the defaults are theirs."""

DECOMPOSE_STAGE, ORDER_STAGE = "decompose", "depth_order"
"""The stages of a run whose options count for the model of layers, and for that of depth."""


def layer_options(trained: Trained) -> DecomposeOptions:
    """As the run decomposes pages itself; if it never did, at the size of the training."""
    published = DecomposeOptions()
    solver = Solver(prediction_type=trained.config("objective.prediction_type") or "epsilon")
    values = stage_config(trained.run, DECOMPOSE_STAGE)
    if not values:
        side = trained.config("data.target_size")
        return attrs.evolve(
            published,
            resolution=int(side) if side else published.resolution,
            solver=solver,
            shared_init_noise=False,  # as in training: a noise for each frame
        )
    return attrs.evolve(
        published,
        resolution=int(values["resolution"]),
        steps=int(values["sampler.steps"]),
        solver=attrs.evolve(
            solver, timestep_spacing=values.get("sampler.timestep_spacing", solver.timestep_spacing)
        ),
        shared_init_noise=values["sampler.shared_noise"] == "true",
        crop_to="character" if values["crop_to"] == "character" else "page",
        head_pass="body" if values["head_pass"] == "body" else "crop",
        decode_passes=8 if values["averaged_decode"] == "true" else 1,
    )


def depth_options(trained: Trained) -> DepthOptions:
    """As the run measures the order of layers itself; if it never did, at the training's size."""
    values = stage_config(trained.run, ORDER_STAGE)
    if not values:
        published, side = DepthOptions(), trained.config("data.target_size")
        noise = _noise(trained.config("objective.noise"))
        return attrs.evolve(
            published,
            resolution=int(side) if side else published.resolution,
            steps=1 if noise == "zeros" else published.steps,
            noise=noise,
            absent_frames=trained.config("data.frames.absent") != "false",
            transparent=_transparent(trained.config("data.frames.transparent")),
        )
    return DepthOptions(
        resolution=int(values["resolution"]),
        crop_to="character" if values["crop_to"] == "character" else "page",
        steps=int(values["sampler.steps"]),
        noise=_noise(values["sampler.noise"]),
        ensemble=int(values["ensemble"]),
        absent_frames=values["frames.absent"] == "true",
        transparent=_transparent(values["frames.transparent"]),
    )


def _noise(value: str | None) -> DepthNoise:
    return "zeros" if value == "zeros" else "random"


def _transparent(value: str | None) -> Transparent:
    return "gray" if value == "gray" else "bled"
