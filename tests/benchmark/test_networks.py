"""What needs networks. Their weights are seeded noise: no number here says anything of pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from seethrough.errors import InputError
from seethrough.metrics.clip_score import Clip, clip_scores
from seethrough.metrics.inception import WIDTH, frechet_distance, kernel_distance
from seethrough.models.small_base import caption_tokenizer
from tests.benchmark.conftest import SIZE, benchmark, results, table, write_predictions
from tests.models.test_perceptual_networks import write_vgg16
from tests.samples import write_list, write_sample


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP in transformers' layout, which knows the words of two tags."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = caption_tokenizer(["face", "front hair"], 16)
    config = CLIPConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 16,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"shortest_edge": 32}
    CLIPImageProcessor(size=size, crop_size=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    torch.save({}, path)
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        network = FeatureExtractorInceptionV3("inception", [str(WIDTH)], str(path))
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with VGG16, as the hub has it."""
    folder = tmp_path_factory.mktemp("vgg16")
    state = torch.load(write_vgg16(folder / "vgg16.pth"), weights_only=True)
    save_file(state, folder / "model.safetensors")
    return folder


def test_a_text_and_a_picture_have_one_score_whatever_is_beside_them(clip: Path):
    model = Clip(clip, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 48, 40, generator=generator)
    both = clip_scores(model, pictures, pictures, ["face", "front hair " * 30])
    assert both["clip_similarity"].tolist() == pytest.approx([100, 100], abs=1e-3)
    alone = clip_scores(model, pictures[:1], pictures[1:], ["face"])
    assert alone["clip_score"].item() == pytest.approx(both["clip_score"][0].item(), abs=1e-3)
    assert alone["clip_similarity"].item() < 100
    lengths = model.text_features(["face", "front hair"]).norm(dim=-1)
    assert lengths.tolist() == pytest.approx([1, 1], abs=1e-5)


def test_a_folder_without_a_part_of_clip_is_refused(clip: Path, tmp_path: Path):
    (tmp_path / "config.json").write_bytes((clip / "config.json").read_bytes())
    with pytest.raises(InputError, match="can't be read as CLIP"):
        Clip(tmp_path, torch.device("cpu"))


def test_all_measures_of_layers(clip: Path, inception: Path, vgg16: Path, tmp_path: Path):
    pages = tmp_path / "pages"
    samples = write_list(
        pages.parent / "list.txt",
        [write_sample(pages, name, SIZE, ("face",), seed=2) for name in ("same", "other")],
    )

    def change(name: str, layers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        faces = {tag: layer.copy() for tag, layer in layers.items()}
        if name == "other":
            faces["face"][..., :3] = 255 - faces["face"][..., :3]
        return faces

    # A list beside the pages' folder names them with it.
    predictions = tmp_path / "predicted"
    write_predictions(samples, predictions, change)
    out = tmp_path / "out"
    benchmark(
        "layers", samples, predictions, f"--out={out}", "--layer_alpha=straight",
        "--resolution=48", "--cutout=176", "--device=cpu", f"--clip=file:{clip}",
        f"--inception=file:{inception}", f"--lpips=file:{vgg16}",
    )  # fmt: skip
    found = results(out)
    assert found["missing"] == []
    rows = {row["sample"]: row for row in table(out / "samples.csv") if row["tag"] == "face"}
    assert float(rows["same"]["lpips"]) == pytest.approx(0, abs=1e-6)
    assert float(rows["other"]["lpips"]) > 1e-4
    assert float(rows["same"]["clip_similarity"]) == pytest.approx(100, abs=1e-3)
    assert float(rows["other"]["clip_similarity"]) < 100
    face = found["rows"]["face"]
    for measure in ("lpips", "clip_score", "clip_similarity"):
        both = [float(rows[name][measure]) for name in ("same", "other")]
        assert face[measure] == pytest.approx(np.mean(both))
    stored = [load_file(out / "samples" / f"{name}.safetensors") for name in ("same", "other")]
    predicted, true = (torch.cat([one[kind] for one in stored]) for kind in ("predicted", "true"))
    assert predicted.shape == (2, WIDTH)
    assert torch.equal(predicted[0], true[0]) and not torch.equal(predicted[1], true[1])
    assert face["fid"] == pytest.approx(frechet_distance(predicted, true))
    assert face["kid"] == pytest.approx(kernel_distance(predicted, true))
    assert found["rows"]["all"]["fid"] == face["fid"] and found["rows"]["neck"]["fid"] is None


def test_weights_that_a_flag_names_must_be_there(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "predicted").mkdir()
    words = ("layers", samples, tmp_path / "predicted", f"--out={tmp_path / 'out'}")
    benchmark(*words, f"--lpips=file:{tmp_path / 'none.pth'}", code=2)
    assert "--lpips" in capsys.readouterr().err
    for flag in ("--clip", "--lpips"):
        benchmark(*words, f"{flag}=hub:someone/model", code=2)
        assert f"{flag}: hub model someone/model" in capsys.readouterr().err
