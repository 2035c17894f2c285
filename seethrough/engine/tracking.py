"""Where the numbers of a run go: a log file always, a tracker by choice, a line for the eye."""

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from PIL import Image
from tqdm import tqdm

from seethrough.engine.files import write_text
from seethrough.errors import InputError
from seethrough.recipe import flatten, show_value
from seethrough.recipe.errors import nearest
from seethrough.recipes.training import TrainStage
from seethrough.tasks.task import StageContext

WANDB_ID = "wandb-id.txt"


def check_tracker(stage: str, tracker: str | None) -> None:
    """Raise InputError for a tracker that accelerate doesn't know or that isn't installed."""
    if tracker is None:
        return
    known = sorted(LOGGER_TYPE_TO_CLASS)
    if tracker not in known:
        raise InputError(
            f"{stage}.tracking.tracker={tracker}: no such tracker; {nearest(tracker, known)} "
            "(or none)"
        )
    if tracker not in map(str, get_available_trackers()):
        raise InputError(
            f"{stage}.tracking.tracker={tracker}: its package is not installed: install it, or "
            "choose none"
        )


class Tracker:
    """The stage's run at its tracker, on the main process; nothing where it has none.

    What goes wrong there never stops the training: the person is told once, and the rest of the
    session goes to `log.jsonl` and `pictures/` alone.
    """

    def __init__(self, stage: TrainStage, context: StageContext, start: int) -> None:
        self.context = context
        self.kind = stage.tracking.tracker
        self.run: GeneralTracker | None = None
        if self.kind is not None and context.is_main:
            with self._forgiven("start"):
                run = _make(stage, context, start)
                run.start()
                self.run = run
                run.store_init_configuration(_configuration(stage, context))

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Record numbers after `step` optimizer steps."""
        if self.run is not None:
            with self._forgiven("take numbers"):
                self.run.log(values, step=step)

    def pictures(self, step: int, pictures: dict[str, Image.Image]) -> None:
        """Record pictures, where the tracker can show them."""
        log_images = getattr(self.run, "log_images", None)
        if self.run is not None and log_images is not None:
            # A batch of one, (1, H, W, C).
            images = {name: np.asarray(image)[None] for name, image in pictures.items()}
            layout = {"dataformats": "NHWC"} if self.kind == "tensorboard" else {}
            with self._forgiven("take pictures"):
                log_images(images, step=step, **layout)

    def close(self) -> None:
        """End the run; where an exception ends the training, wandb is told that it failed."""
        if self.run is not None:
            with self._forgiven("finish"):
                if self.kind == "wandb" and sys.exc_info()[0] is not None:
                    wandb_run: Any = self.run.tracker  # pyright: ignore[reportAttributeAccessIssue]
                    wandb_run.finish(exit_code=1)
                else:
                    self.run.finish()

    @contextlib.contextmanager
    def _forgiven(self, what: str) -> Iterator[None]:
        # Trackers fail in ways of their own: connections, services, disks, servers' answers.
        try:
            yield
        except Exception as error:
            self.run = None
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            self.context.report(
                f"{self.context.name}: the tracker couldn't {what} ({reason}). Training goes on "
                f"without it: {self.context.directory} has the numbers (log.jsonl) and pictures."
            )


def _make(stage: TrainStage, context: StageContext, start: int) -> GeneralTracker:
    tracking = stage.tracking
    assert tracking.tracker is not None
    kind = LOGGER_TYPE_TO_CLASS[tracking.tracker]
    options: dict[str, Any] = {}
    if kind.requires_logging_directory:
        options["logging_dir"] = str(context.directory)
    if kind.name == "tensorboard" and start:
        # What an earlier session wrote of steps that will be done again is not shown.
        options["purge_step"] = start + 1
    if kind.name == "wandb":
        # A resumed run goes on in its chart: wandb itself leaves out steps that it already has.
        options |= {
            "name": f"{_experiment(context)}-{context.name}",
            "dir": str(context.directory),
            "mode": _wandb_mode(),
            "id": _wandb_id(context.directory / WANDB_ID),
            "resume": "allow",
        }
    return kind(tracking.project, **options)


def _configuration(stage: TrainStage, context: StageContext) -> dict[str, Any]:
    """All values of the stage by path: numbers and flags as they are, the rest as text."""
    values = {
        path: value if isinstance(value, bool | int | float | str) else show_value(value)
        for path, value in flatten(stage).items()
    }
    return {"experiment": _experiment(context), "stage": context.name, **values}


def _experiment(context: StageContext) -> str:
    return context.directory.parent.name


def _wandb_id(path: Path) -> str:
    """The id that the stage's sessions share, kept at `path`."""
    if not path.exists():
        write_text(path, secrets.token_hex(4))
    return path.read_text()


def _wandb_mode() -> str:
    """Offline when no key is known."""
    import wandb

    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        return chosen
    return "online" if wandb.login(prompt=False) else "offline"


class RunLog:
    """Writes one JSON line a report to `log.jsonl`, the same to the tracker, and a progress bar.

    Only the main process writes. On a resume after `start` steps, lines of steps that will be
    done again are cut. `close` it in any case.
    """

    def __init__(self, stage: TrainStage, context: StageContext, start: int) -> None:
        self.path = context.directory / "log.jsonl"
        self.pictures_folder = context.directory / "pictures"
        self.is_main = context.is_main
        if self.is_main:
            self._cut_from(start)
        self.tracker = Tracker(stage, context, start)
        self.bar = tqdm(
            total=stage.schedule.max_steps, initial=start, desc=context.name, unit="step",
            disable=not self.is_main, mininterval=5.0, dynamic_ncols=True,
        )  # fmt: skip

    def step(self) -> None:
        """One optimizer step is done."""
        self.bar.update(1)

    def numbers(self, step: int, values: dict[str, float]) -> None:
        """Record numbers after `step` optimizer steps."""
        if not self.is_main:
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        self.tracker.numbers(step, values)
        if "loss" in values:
            self.bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)

    def pictures(self, step: int, pictures: dict[str, Image.Image]) -> None:
        """Save pictures as PNG files and hand them to the tracker."""
        if not self.is_main:
            return
        self.pictures_folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            picture.save(self.pictures_folder / f"step-{step:08d}-{name}.png")
        self.tracker.pictures(step, pictures)

    def close(self) -> None:
        """Finish the bar and the tracker's run."""
        self.bar.close()
        self.tracker.close()

    def _cut_from(self, start: int) -> None:
        if not self.path.exists():
            return
        lines = self.path.read_text().splitlines()
        kept = [line for line in lines if _line_step(line) <= start]
        write_text(self.path, "".join(line + "\n" for line in kept))


def _line_step(line: str) -> float:
    """Step of a log line; a line cut short by a kill counts as past every step."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")
