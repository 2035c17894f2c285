from pathlib import Path

from seethrough.data.avatars_samples import write_characters
from seethrough.data.layout import read_sample
from seethrough.data.sample_list import read_sample_list
from seethrough.inference.ceiling import reconstruct_layers
from seethrough.inference.decompose import DecomposeOptions
from tests.inference.small import small_models

SIDE = 64


def test_true_layers_come_back_few_at_a_time(tmp_path: Path):
    (page,) = read_sample_list(write_characters(tmp_path, "train", 1, SIDE, seed=0))
    sample = read_sample(page)
    models = small_models()
    sizes: list[int] = []
    models.vae.encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    options = DecomposeOptions(resolution=SIDE, decode_batch=3)
    layers = reconstruct_layers(models, sample, options)
    tags = {tag for group in models.flow.groups for tag in group}
    assert layers.keys() == tags & sample.boxes.keys()
    assert all(layer.shape == (SIDE, SIDE, 4) for layer in layers.values())
    assert max(sizes) == 3 and sum(sizes) == len(layers)
