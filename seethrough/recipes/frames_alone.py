"""3D training alone, from a UNet that is there: what a published configuration of it says."""

from seethrough.data.tags import VERSION_GROUPS
from seethrough.recipe import REQUIRED, Execution, Experiment, change, evolve, recipe
from seethrough.recipes.environment import Environment
from seethrough.recipes.layerdiff import LayerDiff3DChain, LayerDiff3DModel, LayerDiff3DTrain
from seethrough.recipes.marigold import Marigold3DChain, Marigold3DModel, Marigold3DTrain


@recipe
class LayerDiff3DAlone(Experiment):
    """LayerDiff in 3D from a conversion, or from an earlier training."""

    train_3d: LayerDiff3DTrain = change(
        LayerDiff3DTrain, model=change(LayerDiff3DModel, unet=REQUIRED)
    )
    """Trains the 3D UNet."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def rehearsal(self) -> Experiment:
        # The rule is that of the chain; it names the classes of its file.
        from seethrough.recipes.layerdiff_rehearsal import rehearse_3d

        chain, groups = LayerDiff3DChain(), self.train_3d.data.groups
        of_v2 = groups == VERSION_GROUPS["v2"]
        inflate = evolve(
            chain.inflate,
            tag_version="v2" if of_v2 else "v3",
            group_embedding=not of_v2,
            group_sizes=tuple(map(len, groups)),
        )
        return rehearse_3d(
            evolve(chain, inflate=inflate, train_3d=self.train_3d, environment=self.environment)
        )


@recipe
class Marigold3DAlone(Experiment):
    """Marigold in 3D from a conversion, or from an earlier training."""

    train_3d: Marigold3DTrain = change(
        Marigold3DTrain, model=change(Marigold3DModel, unet=REQUIRED)
    )
    """Trains the 3D UNet."""

    environment: Execution[Environment] = Environment()
    """Data roots and environment variables."""

    def rehearsal(self) -> Experiment:
        # The rule is that of the chain; it names the classes of its file.
        from seethrough.recipes.marigold_rehearsal import rehearse_3d

        chain, data = Marigold3DChain(), self.train_3d.data
        sizes = tuple(len(group) + int(data.page_frame) for group in data.groups)
        return rehearse_3d(
            evolve(
                chain,
                inflate=evolve(chain.inflate, group_sizes=sizes),
                train_3d=self.train_3d,
                environment=self.environment,
            )
        )
