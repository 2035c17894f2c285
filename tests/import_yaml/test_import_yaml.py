"""Published configurations become experiments; what can't is named with its line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seethrough.data.tags import TAGS_V1, TAGS_V2
from seethrough.import_yaml.__main__ import main
from seethrough.import_yaml.document import read_documents
from seethrough.import_yaml.layouts import LAYOUTS, Program, program_of
from seethrough.import_yaml.rules import Beside, Import, Options, To, fill
from seethrough.recipe import Draft, RecipeError, load, resolve
from seethrough.recipes.training import AdamW8bit, TrainStage
from tests.import_yaml.published import CASES, FOLDER, imported
from tests.recipe.files import ROOT


@pytest.mark.parametrize("case", CASES)
def test_a_published_configuration(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said and changed, as `python -m tests.import_yaml` wrote it down."""
    monkeypatch.chdir(tmp_path)
    assert imported(case, tmp_path) == (FOLDER / f"{case}.txt").read_text()
    made = load(case.replace("-", "_") + ".py")
    if case != "marigold3d":  # what it starts from is yet to be told
        made.resolve()
    made.rehearsal().resolve()


def test_files_are_as_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for case in CASES:
        imported(case, tmp_path)
    for arguments in (["check"], ["format", "--check"]):
        ours = f'src = ["{ROOT}", "{tmp_path}"]'
        config = ["--config", str(ROOT / "pyproject.toml"), "--config", ours]
        command = [sys.executable, "-m", "ruff", *arguments, *config, "."]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


class Configuration:
    """A published file with some of its text replaced, imported in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.count = 0

    def __call__(
        self, name: str, changes: dict[str, str], *flags: str, code: int = 0
    ) -> tuple[Draft | None, str]:
        text = (FOLDER / f"{name}.yaml").read_text()
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new, 1)
        self.count += 1
        config, file = self.folder / "config.yaml", self.folder / f"made_{self.count}.py"
        config.write_text(text)
        assert main([str(config), str(file), *flags]) == code
        out, err = self.capsys.readouterr()
        assert file.exists() == (code == 0)
        return (load(file) if code == 0 else None), out + err


@pytest.fixture
def configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Configuration:
    monkeypatch.chdir(tmp_path)
    return Configuration(tmp_path, capsys)


def stage(made: Draft | None) -> Any:
    assert made is not None
    (found,) = (s for s in made.experiment.stages().values() if isinstance(s, TrainStage))
    return found


def test_values_of_its_own(configuration: Configuration) -> None:
    changes = {
        "optimizer: adamw": "use_8bit_adam: true",
        "lr_scheduler: constant_with_warmup": "lr_scheduler: piecewise_constant\n"
        "lr_scheduler_step_rules: 1:10,0.1:200,0.01",
        "report_to: wandb": "report_to: tensorboard\nlearnable_parameters: temporal",
        "snr_gamma: 5": "",
        "ngroup_iters: 1": "ngroup_iters: 2\n  pad_num_frames: 20",
    }
    made, _ = configuration("test_layerdiff3d", changes, "--processes=4", "--samples=1000")
    found = stage(made)
    assert isinstance(found.optim, AdamW8bit) and found.optim.betas == (0.9, 0.999)
    assert found.schedule.lr_schedule == "piecewise" and found.schedule.warmup_steps == 0
    assert found.schedule.pieces == ((0, 1.0), (10, 0.1), (200, 0.01))
    # 1000 samples are 250 passes of 4 processes, so 32 steps of 8 passes: 200 epochs of them.
    assert found.schedule.max_steps == 32 * 200
    assert found.data.global_batch == 4 * 8 and found.hardware.processes == 4
    assert found.model.learn == "temporal" and found.data.pad_frames == 20
    assert found.data.ngroup_iters == 2 and found.tracking.tracker == "tensorboard"
    # What a configuration leaves out is its program's default, which isn't the recipe's.
    assert found.objective.snr_gamma is None


def test_crops_and_conditions(configuration: Configuration) -> None:
    made, _ = configuration("marigold3d", {"size_skip_tags: [hair]": "crop_tag_list: [face]"})
    assert stage(made).data.crop_tags[0] == ("face",)
    assert stage(made).data.crop_tags[1] == stage(made).data.groups[1]
    made, _ = configuration(
        "test_layerdiff",
        {"in_channels: 8": "in_channels: 12", "mask_cond: false": "random_aug_mask: 0.1"},
    )
    assert stage(made).data.mask_condition and stage(made).data.random_mask == 0.1
    made, _ = configuration("test_depth", {"depthanythingv2": "depthanythingv2_metric"})
    assert str(stage(made).model.weights).endswith("metric_hypersim_vitl.pth")
    loss = (
        "train_vae_decoder: true\nloss_type: lpips\nloss_args:\n"
        "  disc_factor: 1.0\n  disc_in_channels: 4\n  discriminator: unet_sn\n"
        "  perceptual_weight: 0.0\nalpha_reweight: 2.0"
    )
    noise = {"noise_max_step: 1": "noise_max_step: 300", "noise_prob: 0.0": "noise_prob: 0.5"}
    made, said = configuration("test_vae", {"train_vae_decoder: false": loss, **noise})
    assert stage(made).latent_noise.probability == 0.5
    assert stage(made).latent_noise.below_step == 300 and stage(made).loss.alpha_reweight == 2
    assert stage(made).model.learn == "decoders" and stage(made).loss.lpips == 0
    assert stage(made).adversarial.discriminator == "unet_sn"
    assert stage(made).adversarial.weight == 0.5 and "loss_args.disc_in_channels" in said
    made, _ = configuration("config", {"default: 1\n": "default: null\n"}, "--processes=2")
    assert stage(made).data.global_batch == 16


def test_classes_by_their_number(configuration: Configuration) -> None:
    for count, tags in ((20, TAGS_V1), (19, TAGS_V2)):
        change = {"class_num: 24\n  target_size": f"class_num: {count}\n  target_size"}
        made, said = configuration("test_partseg", change, "--part=1")
        assert stage(made).data.tags == tags
        # As many has face parsing, whose names nothing in the file tells.
        assert ("FACE_CLASSES" in said) == (count == 19)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "test_layerdiff",
            {"snr_gamma": "snr_gama"},
            ":35: snr_gama is no key of LayerDiff 2D",
        ),
        (
            "test_layerdiff",
            {"random_flip: 0.5": "random_flip: 1.5"},
            "1.5 doesn't go into train_2d",
        ),
        ("test_layerdiff", {"target_size: 1024": "target_size: big"}, "big doesn't go into"),
        ("test_layerdiff", {"in_channels: 8": "in_channels: 12"}, "mask_cond makes it 8"),
        ("test_layerdiff", {"sample_rate": "sampel_rate"}, "did you mean sample_rate"),
        ("test_layerdiff", {"eps: 1e-08": "eps: 1e-08\n  eps: 1"}, "optimizer_args.eps stands in"),
        ("test_layerdiff", {"constant_with": "constant_wit"}, "did you mean constant_with_warmup"),
        ("test_layerdiff", {"betas: [0.9, 0.999]": "betas: 0.9"}, "expected a list of numbers"),
        ("test_layerdiff", {"seed: 42": "seed: [42"}, "not valid YAML"),
        ("test_layerdiff", {"seed: 42": "seed: !!python/object/apply:os.system [x]"}, "no plain"),
        ("marigold2d", {"mse_loss": "l1_loss"}, "training is by mse_loss alone"),
        ("marigold3d", {"size_skip_tags": "skip_tags"}, "did you mean size_skip_tags"),
        (
            "test_vae",
            {"trans_decoder: true": "trans_decoder: false"},
            "neither decoder",
        ),
        (
            "test_vae",
            {"target_size": "load_rgb_cond: true\n  target_size"},
            "would widen the pixel",
        ),
        ("config", {"trans10k": "gdd"}, "the only dataset is trans10k"),
        ("test_partseg", {}, "--part=1 (from line 2) or 2 (from line 30)"),
    ],
)
def test_what_is_refused(
    name: str, changes: dict[str, str], message: str, configuration: Configuration
) -> None:
    _, said = configuration(name, changes, code=2)
    assert message in said and said.startswith(str(configuration.folder / "config.yaml"))


def test_nothing_is_overwritten(configuration: Configuration, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("# mine\n")
    assert main([str(FOLDER / "test_vae.yaml"), str(tmp_path / "mine.py")]) == 2
    assert (tmp_path / "mine.py").read_text() == "# mine\n"
    assert main([str(tmp_path / "nowhere.yaml"), str(tmp_path / "new.py")]) == 2
    assert "can't be read" in configuration.capsys.readouterr().err


@pytest.mark.parametrize("program", LAYOUTS)
def test_rules_name_fields_of_their_recipe(program: Program) -> None:
    layout = LAYOUTS[program]
    made = Import(layout, Options(), {}, layout.experiment())
    for rule in layout.rules.values():
        if isinstance(rule, To):
            made.now(rule.path)
        elif isinstance(rule, Beside):
            assert rule.key in layout.rules
    assert set(layout.defaults) <= set(layout.rules)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5000) | st.floats(-1, 10) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["tags", "sample_list", "src_list"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_is_taken_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    program = data.draw(st.sampled_from(sorted(LAYOUTS)))
    layout = LAYOUTS[program]
    key = data.draw(st.sampled_from(sorted(layout.rules)))
    tree: dict[str, Any] = {}
    place = tree
    *above, last = key.split(".")
    for name in above:
        place = place.setdefault(name, {})
    place[last] = data.draw(_VALUES)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    try:
        (document,) = read_documents(file)
        made = fill(layout, "config", document.flat(layout.whole), Options())
        resolve(made.experiment)
    except RecipeError:
        pass


def test_programs_are_told_apart(tmp_path: Path) -> None:
    expected = {
        "test_layerdiff": "layerdiff_2d",
        "test_layerdiff3d": "layerdiff_3d",
        "marigold2d": "marigold_2d",
        "marigold3d": "marigold_3d",
        "test_depth": "depth_anything",
        "test_vae": "transparent_vae",
        "test_partseg": "partseg",
        "config": "transparency",
    }
    for name, program in expected.items():
        assert program_of(read_documents(FOLDER / f"{name}.yaml")[0]) == program
