"""The perceptron with an opponent: a second one, which tells predictions from targets."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from seethrough.recipe import Execution, Experiment, recipe
from seethrough.recipes.environment import Environment
from seethrough.recipes.training import AdamW, AnyOptim
from seethrough.tasks.task import Batch, Loss
from tests.engine.chain import Perceptron, Rows
from tests.engine.toy import INPUTS, Layers, PerceptronTask


@recipe
class DuelTrain(Perceptron):
    """Trains both."""

    implementation: ClassVar[str] = "tests.engine.duel:DuelTask"

    against: AdamW = AdamW(lr=5e-3, max_grad_norm=None)
    """The opponent's optimizer."""

    nan_judgement_step: int | None = None
    """Step at which the opponent's loss is not a number."""

    @property
    def opponent_optim(self) -> AnyOptim:
        return self.against


@recipe
class Duel(Experiment):
    """Rows and both networks."""

    rows: Rows = Rows()
    """Data."""

    train: DuelTrain = DuelTrain()
    """Training."""

    environment: Execution[Environment] = Environment()
    """Data roots and variables."""


class DuelTask(PerceptronTask):
    """The squared error, and a tenth of how surely the opponent finds predictions false."""

    stage: DuelTrain

    def opponent(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.stage.seed + 1)
            self.judge = Layers(8)
        return self.judge

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        loss = super().loss(model, batch)
        prediction = model(batch["row"])
        self.judge.requires_grad_(False)
        doubt = F.softplus(-self.judge(judged(batch, prediction))).sum()
        self.judge.requires_grad_(True)
        terms = {**loss.terms, "doubt": doubt.detach()}
        return Loss(loss.total + 0.1 * doubt, terms, shown=prediction.detach())

    def opponent_loss(self, opponent: nn.Module, batch: Batch, first: Loss) -> Loss:
        both = torch.cat([judged(batch, batch["target"]), judged(batch, first.shown)])
        true, false = opponent(both).chunk(2)
        errors = F.softplus(-true) + F.softplus(false)
        if batch["draw"][0].step == self.stage.nan_judgement_step:
            errors = errors * float("nan")
        return Loss(errors.sum(), {"judged_true": (true > 0).float().sum()})


def judged(batch: Batch, target: torch.Tensor) -> torch.Tensor:
    """Rows whose first number is the target, (N, 8)."""
    assert batch["row"].shape[1] == INPUTS
    return torch.cat([target[:, None], batch["row"][:, 1:]], 1)
