"""That the hub may be asked at all."""

from seethrough.errors import InputError


def require_online() -> None:
    """Raise InputError where the environment forbids to reach the hub."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE forbids to reach the hub: unset it for this command")
