"""Weights, gradients and optimizer state cut over the processes by DeepSpeed's ZeRO."""

import contextlib
import copy
import logging
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import DeepSpeedPlugin
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from seethrough.engine.deepspeed_config import deepspeed_config
from seethrough.engine.distribution import Distribution
from seethrough.engine.files import write_json
from seethrough.engine.loader import Split
from seethrough.recipes.training import TrainStage

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Of AdamW's state, what is as large as the weights."""


def make_zero_accelerator(stage: TrainStage, cpu: bool) -> Accelerator:
    """The accelerator that hands a stage's network to DeepSpeed; the processes are joined."""
    if cpu:
        # DeepSpeed chooses once a process, when it is first imported.
        os.environ["DS_ACCELERATOR"] = "cpu"
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed's calls of torch.distributed, several a step.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    state = PartialState()
    accumulation = Split.of(stage, state.process_index, state.num_processes).accumulation
    config = deepspeed_config(stage, accumulation)
    # Told of the CPU, accelerate would leave DeepSpeed out.
    accelerator = Accelerator(
        mixed_precision="bf16" if stage.optim.precision == "bf16" else "no",
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=config, zero3_init_flag=False),
        gradient_accumulation_steps=accumulation,
    )
    # accelerate has told transformers of ZeRO-3, whatever `zero3_init_flag` is. Every model that
    # transformers loads would come out cut, frozen ones too: embeddings no matrices, and what
    # should start at zero not (DeepSpeed's issue 6793). Networks are built whole here, then cut.
    unset_hf_deepspeed_config()
    return accelerator


class Zero(Distribution):
    """Each process steps its part of the weights in float32.

    The network's own parameters are a copy of them in the precision of the forward pass, cut too
    under ZeRO-3. For use outside of training, the main process puts the parts together in a
    twin of the network.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        accelerator: Accelerator,
    ) -> None:
        self.network = network
        self.accelerator = accelerator
        self.names = {parameter: name for name, parameter in network.named_parameters()}
        self.groups: list[list[nn.Parameter]] = [
            list(group["params"]) for group in optimizer.param_groups
        ]
        self.twin = _skeleton(network) if accelerator.is_main_process else None
        trained = {self.names[p]: p.data for group in self.groups for p in group}
        # DeepSpeed casts the network: parameters that it doesn't train keep their values here.
        self.frozen = {
            name: parameter.detach().clone()
            for name, parameter in network.named_parameters()
            if accelerator.is_main_process and name not in trained
        }
        if accelerator.mixed_precision == "bf16":
            _autocast_inside(network, accelerator.device.type, torch.bfloat16)
        engine, _ = accelerator.prepare(network, optimizer)
        self.engine: Any = engine
        self.model = engine
        self.state = engine.optimizer
        self.optimizer = engine.optimizer.optimizer
        self.set_weights(trained)

    @contextlib.contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        self.engine.set_gradient_accumulation_boundary(last)
        yield

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()  # the network's own forward has it

    def backward(self, loss: Tensor) -> None:
        # The loss is a share of the global batch's already.
        self.engine.backward(loss, scale_wrt_gas=False)

    def step(self) -> Tensor:
        self.engine.step()
        norm = self.engine.get_global_grad_norm()
        return torch.as_tensor(norm, dtype=torch.float32, device=self.accelerator.device)

    def masters(self) -> list[Tensor]:
        return [flat.detach() for flat in self._flats()]

    def weights(self) -> dict[str, Tensor]:
        weights = self._gather(None)
        if not self.accelerator.is_main_process:
            return {}
        parameters = set(self.names.values())
        buffers = {
            name: value.to("cpu", copy=True)
            for name, value in self.network.state_dict().items()
            if name not in parameters
        }
        return weights | self.frozen | buffers

    def set_weights(self, weights: dict[str, Tensor]) -> None:
        self._scatter({name: weights[name] for name in self._trained()}, None)

    def optimizer_state(self) -> dict[str, Any]:
        self._link_moments()
        moments = {key: self._gather(key) for key in MOMENTS}
        if not self.accelerator.is_main_process:
            return {}
        step = self.optimizer.state[self._flats()[0]]["step"].detach().cpu()
        names = self._trained()
        numbers = {name: number for number, name in enumerate(names)}
        return {
            "state": {
                numbers[name]: {"step": step, **{key: moments[key][name] for key in MOMENTS}}
                for name in names
            },
            "param_groups": [
                {key: value for key, value in options.items() if key != "params"}
                | {"params": [numbers[self.names[p]] for p in group]}
                for options, group in zip(self.optimizer.param_groups, self.groups, strict=True)
            ],
        }

    def set_optimizer_state(self, state: dict[str, Any]) -> None:
        names = self._trained()
        counts = [len(group["params"]) for group in state["param_groups"]]
        if counts != [len(group) for group in self.groups]:
            raise ValueError(f"it has groups of {counts} parameters")
        missing = [name for number, name in enumerate(names) if number not in state["state"]]
        if missing:
            raise ValueError(f"it has no state of the optimizer for {missing[0]}")
        step = state["state"][0]["step"]
        for flat in self._flats():
            moments = {key: torch.zeros_like(flat) for key in MOMENTS}
            self.optimizer.state[flat] = {"step": step.to(flat.device, copy=True), **moments}
        self._link_moments()
        for key in MOMENTS:
            values = {name: state["state"][number][key] for number, name in enumerate(names)}
            self._scatter(values, key)

    @contextlib.contextmanager
    def whole(self, device: torch.device) -> Iterator[nn.Module]:
        weights = self.weights()
        if self.twin is None:
            yield self.network
            return
        self.twin.load_state_dict(weights, assign=True)
        yield self.twin.to(device).eval()
        empty = {name: value.to("meta") for name, value in weights.items()}
        self.twin.load_state_dict(empty, assign=True)

    def write_config(self, path: Path) -> None:
        """Leave the configuration that DeepSpeed was given, in its own terms."""
        config = self.accelerator.deepspeed_config
        # accelerate sets how often DeepSpeed prints to infinity, which JSON lacks.
        write_json(path, {name: value for name, value in config.items() if value != math.inf})

    def _flats(self) -> list[Tensor]:
        """The optimizer's own parameters: this process's parts, laid end to end."""
        if self.engine.zero_optimization_stage() == 3:
            return list(self.state.fp32_partitioned_groups_flat)
        return list(self.state.single_partition_of_fp32_groups)

    def _link_moments(self) -> None:
        """Let DeepSpeed find the moments of each parameter under ZeRO-1 and 2.

        It does so once, after the step of the first group, when the others have none yet.
        """
        if self.engine.zero_optimization_stage() < 3:
            self.state._hp_optimizer_states_linked = False
            self.state._lazy_init_hp_params_optimizer_state()

    def _trained(self) -> list[str]:
        """Names of the trained parameters in the order of the optimizer's groups."""
        return [self.names[parameter] for group in self.groups for parameter in group]

    def _gather(self, key: str | None) -> dict[str, Tensor]:
        """Whole float32 values of the weights or of a moment, on the main process.

        One parameter at a time, so that no device holds more than one in whole.
        """
        whole: dict[str, Tensor] = {}
        for group in self.groups:
            for parameter in group:
                value = _get_whole(parameter, key)
                if self.accelerator.is_main_process:
                    whole[self.names[parameter]] = value.detach().to("cpu", copy=True)
        return whole

    def _scatter(self, values: dict[str, Tensor], key: str | None) -> None:
        """Keep this process's part of whole float32 values, of the weights or of a moment."""
        for group in self.groups:
            for parameter in group:
                _set_whole(parameter, values[self.names[parameter]], key)


def _get_whole(parameter: nn.Parameter, key: str | None) -> Tensor:
    from deepspeed import utils

    if key is None:
        value = utils.safe_get_full_fp32_param(parameter)
    else:
        value = utils.safe_get_full_optimizer_state(parameter, key)
    assert value is not None
    return value


def _set_whole(parameter: nn.Parameter, value: Tensor, key: str | None) -> None:
    from deepspeed import utils

    value = value.detach().to(parameter.device, torch.float32)
    if not hasattr(parameter, "ds_id"):  # not ZeRO-3
        if key is None:
            utils.safe_set_full_fp32_param(parameter, value)
        else:
            utils.safe_set_full_optimizer_state(parameter, value, key)
        return
    # DeepSpeed's setter of whole values fails where the last process's part has padding.
    given: Any = parameter
    size = given.ds_tensor.numel()
    world = torch.distributed.get_world_size(given.ds_process_group)
    rank = torch.distributed.get_rank(given.ds_process_group)
    padded = nn.functional.pad(value.flatten(), (0, size * world - value.numel()))
    part = padded.narrow(0, size * rank, size)
    if key is None:
        utils.safe_set_local_fp32_param(parameter, part)
    else:
        utils.safe_set_local_optimizer_state(parameter, part, key)


def _skeleton(network: nn.Module) -> nn.Module:
    """A copy of a network whose parameters take no memory."""
    empty: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        for parameter in network.parameters()
    }
    return copy.deepcopy(network, empty)


def _autocast_inside(network: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Let the forward pass compute in `dtype` what bears it; DeepSpeed disables such a context
    that it finds around its own."""
    forward = network.forward

    def lower_precision(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype):
            return forward(*args, **kwargs)

    network.forward = lower_precision
