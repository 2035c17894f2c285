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

    files: tuple[str, ...] = ()
    """Patterns of the files to commit of a folder of any kind, such as *.safetensors; what else the
    repository holds stays. None means a model, whose folders are replaced."""


@recipe
class Download(Section):
    """What to download."""

    revision: str | None = None
    """Branch, tag or commit; main by default."""

    files: tuple[str, ...] = ()
    """Patterns of the files to fetch of a repository of any kind, such as checkpoint-18000.pt; none
    fetches a model."""


@recipe
class Listing(Section):
    """What to list."""

    revision: str | None = None
    """Branch, tag or commit of a repository; main by default."""
