"""Where the numbers of a run go: a log file always, a tracker by choice, a line for the eye."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image
from tqdm import tqdm

from seethrough.engine.files import write_text
from seethrough.errors import InputError
from seethrough.recipe.errors import nearest
from seethrough.recipes.training import Tracking
from seethrough.tasks.task import StageContext


def check_tracker(stage: str, tracker: str | None) -> None:
    """Raise InputError for a tracker that accelerate doesn't know or that isn't installed."""
    if tracker is None:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

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


def tracker_init(tracking: Tracking, run_name: str, context: StageContext) -> dict[str, Any]:
    """Arguments for the tracker's start; wandb goes offline when no key is known."""
    if tracking.tracker != "wandb":
        return {}
    mode = _wandb_mode() if context.is_main else "disabled"
    return {"wandb": {"name": run_name, "dir": str(context.directory), "mode": mode}}


def _wandb_mode() -> str:
    import wandb

    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        return chosen
    return "online" if wandb.login(prompt=False) else "offline"


class RunLog:
    """Writes one JSON line a report to `log.jsonl`, the same to the tracker, and a progress bar.

    Only the main process writes. On a resume, lines of steps that will be done again are cut.
    """

    def __init__(self, accelerator: Accelerator, folder: Path, start: int, stop: int) -> None:
        self.accelerator = accelerator
        self.path = folder / "log.jsonl"
        self.pictures_folder = folder / "pictures"
        self.is_main = accelerator.is_main_process
        if self.is_main:
            self._cut_from(start)
        self.bar = tqdm(
            total=stop, initial=start, desc=folder.name, unit="step", disable=not self.is_main,
            mininterval=5.0, dynamic_ncols=True,
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
        self.accelerator.log(values, step=step)
        if "loss" in values:
            self.bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)

    def pictures(self, step: int, pictures: dict[str, Image.Image]) -> None:
        """Save pictures as PNG files and hand them to the tracker."""
        if not self.is_main:
            return
        self.pictures_folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            picture.save(self.pictures_folder / f"step-{step:08d}-{name}.png")
        for tracker in self.accelerator.trackers:
            if hasattr(tracker, "log_images"):
                # A batch of one, (1, H, W, C).
                images = {name: np.asarray(image)[None] for name, image in pictures.items()}
                layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images(images, step=step, **layout)

    def close(self) -> None:
        """Finish the bar."""
        self.bar.close()

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
