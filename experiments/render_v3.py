"""Training samples of V3 layers, of characters that were ingested and labelled.

Hypothesis: the published distributions of sizes, places and backgrounds, with a compositor that is
right: alphas that don't add up, straight colour, and layers that meet where the art's do.
Base: the published renderer; `--render.options.compat=True` goes by its rules instead.
Cost: 0.6 s of CPU for a sample of 66 layers on a canvas of 2048 px, 4 MB on disk; measured by
tests/benchmarks/render_sample.py.
"""

from seethrough.recipe import Local, change, recipe
from seethrough.recipes.render import Render, RenderChain


@recipe
class RenderV3(RenderChain):
    """Eight samples of each character of a folder."""

    render: Render = change(Render, characters=Local("characters"), samples_each=8)
