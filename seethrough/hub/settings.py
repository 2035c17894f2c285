"""What the commands of `seethrough.hub` may be given."""

from typing import Literal

from seethrough.recipe import Section, recipe


@recipe
class Export(Section):
    """What to export, and how."""

    model: Literal["layers", "depth"] | None = None
    """Which of the run's models; needed where it trained both."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Type of all weights; the published ones are bf16."""

    license: str | None = None
    """Identifier of the license that the model card states, such as openrail++; none by default."""


@recipe
class Upload(Export):
    """How to upload; what Export says is for a run, which is exported first."""

    private: bool = False
    """Make the repository private; it has to be so already where there is one."""

    revision: str | None = None
    """Branch to commit to, made where there is none; main by default."""

    message: str | None = None
    """What the commit says."""


@recipe
class Download(Section):
    """What to download."""

    revision: str | None = None
    """Branch, tag or commit; main by default."""
