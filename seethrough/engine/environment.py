"""Sets the environment variables that a recipe asks for, before libraries read them."""

import os
import sys
from collections.abc import Iterator, Mapping

import attrs

from seethrough.errors import InputError
from seethrough.recipe import Experiment
from seethrough.recipes.environment import Environment

_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "hf_home": ("HF_HOME",),
    "hf_endpoint": ("HF_ENDPOINT",),
    "hf_hub_offline": ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    "hf_xet_high_performance": ("HF_XET_HIGH_PERFORMANCE",),
    "expandable_segments": ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"),
    "nccl_p2p_level": ("NCCL_P2P_LEVEL",),
    "nccl_p2p_disable": ("NCCL_P2P_DISABLE",),
    "nccl_ib_disable": ("NCCL_IB_DISABLE",),
    "nccl_socket_ifname": ("NCCL_SOCKET_IFNAME",),
    "nccl_debug": ("NCCL_DEBUG",),
}
"""The variable of each field, then older names by which a library also reads it."""

_TRUE = ("1", "true", "yes", "on")


@attrs.frozen
class Setting:
    """A variable that the recipe asks for."""

    field: str
    variable: str
    value: str
    outside: str | None
    """`NAME=text` where the user's environment has it already; that stays."""
    contradicts: bool
    """Whether the user's text means something else."""

    def __str__(self) -> str:
        if self.contradicts:
            return f"{self.outside}, set outside; environment.{self.field} ({self.value}) yields"
        return self.outside or f"{self.variable}={self.value}"


def environment_of(experiment: Experiment) -> Environment:
    """The experiment's `environment`, or the default of one that has none."""
    section = getattr(experiment, "environment", None)
    return section if isinstance(section, Environment) else Environment()


def settings(environment: Environment) -> tuple[Setting, ...]:
    """The variables that the recipe asks for, compared with those of this process."""
    return tuple(_settings(environment))


def _settings(environment: Environment) -> Iterator[Setting]:
    for field, names in _VARIABLES.items():
        value = getattr(environment, field)
        if value is None:
            continue
        text = _text(field, value)
        name = next((name for name in names if os.environ.get(name)), None)
        if name is None:
            yield Setting(field, names[0], text, None, contradicts=False)
        else:
            given = os.environ[name]
            agrees = given == text or (value is True and given.lower() in _TRUE)
            yield Setting(field, names[0], text, f"{name}={given}", contradicts=not agrees)


def _text(field: str, value: bool | str) -> str:
    if field == "expandable_segments":
        return f"expandable_segments:{value}"
    if field == "hf_home":
        return os.path.expanduser(str(value))
    return str(int(value)) if isinstance(value, bool) else value


def apply(environment: Environment) -> tuple[Setting, ...]:
    """Set the variables for this process and those that it starts; returns what was settled.

    Raises InputError where a library in this process has read its variable already.
    """
    settled = settings(environment)
    for setting in settled:
        if setting.outside is not None:
            continue
        # It reads its variables when it is imported.
        if setting.variable.startswith("HF_") and "huggingface_hub.constants" in sys.modules:
            raise InputError(
                f"environment.{setting.field}: huggingface_hub is imported already and has read "
                f"its variables: set {setting.variable}={setting.value} before Python starts"
            )
        os.environ[setting.variable] = setting.value
    return settled
