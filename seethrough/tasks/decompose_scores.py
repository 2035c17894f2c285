"""Measuring decompositions page by page, beside baselines and a ceiling."""

from collections.abc import Callable, Mapping, Sequence

from seethrough.data.layout import Sample
from seethrough.data.merged import merged
from seethrough.data.tags import HEAD
from seethrough.inference.ceiling import reconstruct_layers
from seethrough.inference.composite import Image8, drawing_order, flatten
from seethrough.inference.decompose import DecomposeOptions, LayerDiff
from seethrough.metrics.baselines import NearestCharacter, mean_layers
from seethrough.metrics.layers import (
    CharacterScores,
    LayerMetrics,
    LayerScores,
    Truth,
    load_truth,
    score_character,
    true_layers_difference,
)

CHAIN, MEAN, NEAREST, CEILING = "chain", "mean alpha", "nearest", "ceiling"

Layers = Mapping[str, Image8]
Predict = Callable[[Sample, Truth], Layers]
"""Gives the layers of a page; baselines only look at the page of the truth."""


class Comparison:
    """Scores of the chain, of the baselines and of the ceiling over the pages that are added."""

    def __init__(
        self,
        models: LayerDiff,
        options: DecomposeOptions,
        big_tags: Sequence[str],
        known: Sequence[Sample] | None,
    ) -> None:
        """`known` are the training characters of the baselines; None leaves these out.

        All samples are as stored; V2's tags are made from their parts here.
        """
        self.tags = models.flow.tags
        self.resolution = options.resolution
        self.difference = 0.0
        """Largest difference of a page and its own true layers, in levels of 255."""
        self._others: dict[str, Predict] = {}
        if known is not None:
            self._others |= _baselines(known, (*self.tags, HEAD), options.resolution)
        self._others[CEILING] = lambda sample, _: reconstruct_layers(
            models, merged(sample), options
        )
        big_tags = [tag for tag in big_tags if tag in self.tags]
        # One process decomposes: under an outer launcher the others wouldn't come to a gathering.
        self._metrics = {
            name: LayerMetrics(self.tags, big_tags, sync_on_compute=False)
            for name in (CHAIN, *self._others)
        }

    def truth(self, sample: Sample) -> Truth:
        """The true layers of a page, on its canvas."""
        return load_truth(merged(sample), (*self.tags, HEAD), self.resolution)

    def add(self, sample: Sample, truth: Truth, layers: Layers) -> CharacterScores:
        """Measure a page's predicted layers, and let all others predict it; returns its scores."""
        scores = self._score(truth, layers)
        self._metrics[CHAIN].update(scores)
        for name, predict in self._others.items():
            self._metrics[name].update(self._score(truth, predict(sample, truth)))
        self.difference = max(self.difference, true_layers_difference(sample))
        return scores

    def systems(self) -> dict[str, LayerScores]:
        """The means over the pages added so far, the chain's first."""
        return {name: metrics.compute() for name, metrics in self._metrics.items()}

    def _score(self, truth: Truth, layers: Layers) -> CharacterScores:
        drawn = [layers[tag] for tag in drawing_order(layers)]
        recomposition = flatten(drawn, truth.page.shape[:2]).straight()
        return score_character(layers, truth, self.tags, recomposition)


def _baselines(
    known: Sequence[Sample], tags: tuple[str, ...], resolution: int
) -> dict[str, Predict]:
    truths = (load_truth(merged(sample), tags, resolution) for sample in known)
    mean = mean_layers((truth.layers for truth in truths), tags)
    nearest = NearestCharacter(load_truth(sample, (), resolution).page for sample in known)
    return {
        MEAN: lambda sample, truth: mean,
        NEAREST: lambda sample, truth: (
            load_truth(merged(known[nearest.index(truth.page)]), tags, resolution).layers
        ),
    }
