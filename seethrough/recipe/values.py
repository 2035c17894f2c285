"""The values a field can hold beside Python's own: sources, REQUIRED, and marks on annotations."""

import re
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import attrs

from seethrough.recipe.errors import RecipeError

T = TypeVar("T")


class _Required:
    """The type of REQUIRED: a value that the user has yet to give."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "REQUIRED"

    def __reduce__(self) -> str:
        return "REQUIRED"


REQUIRED: Final[Any] = _Required()
"""The default of a field that has none: resolving an experiment fails and names the path."""


@attrs.frozen
class Range:
    """Bounds of a number: `Annotated[float, Range(ge=0, lt=1)]`."""

    gt: float | None = attrs.field(default=None, kw_only=True)
    ge: float | None = attrs.field(default=None, kw_only=True)
    lt: float | None = attrs.field(default=None, kw_only=True)
    le: float | None = attrs.field(default=None, kw_only=True)

    def holds(self, value: float) -> bool:
        """Whether `value` lies within all bounds."""
        return (
            (self.gt is None or value > self.gt)
            and (self.ge is None or value >= self.ge)
            and (self.lt is None or value < self.lt)
            and (self.le is None or value <= self.le)
        )

    def __str__(self) -> str:
        bounds = ((">", self.gt), (">=", self.ge), ("<", self.lt), ("<=", self.le))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)


class ExecutionMark:
    """Marks an annotation as execution; see `Execution`."""

    def __repr__(self) -> str:
        return "Execution"


Execution: TypeAlias = Annotated[T, ExecutionMark()]
"""`Execution[int]`: how the run is carried out, not what it computes; no part of a fingerprint."""

PositiveInt: TypeAlias = Annotated[int, Range(gt=0)]
NonNegativeInt: TypeAlias = Annotated[int, Range(ge=0)]
PositiveFloat: TypeAlias = Annotated[float, Range(gt=0)]
NonNegativeFloat: TypeAlias = Annotated[float, Range(ge=0)]
Fraction: TypeAlias = Annotated[float, Range(ge=0, le=1)]


def _part(pattern: str, form: str) -> Any:
    def check(instance: object, attribute: "attrs.Attribute[str]", value: object) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise RecipeError(
                f"{type(instance).__name__}.{attribute.name} = {value!r}: expected {form}"
            )

    return check


_HUB_NAME = r"[\w.-]+(/[\w.-]+)?"
_REVISION = r"[\w.+/-]+"


@attrs.frozen
class Hub:
    """A repository on the Hugging Face hub; as text `hub:org/name@revision`."""

    repo: str = attrs.field(validator=_part(_HUB_NAME, "a repository id such as org/name"))
    revision: str | None = attrs.field(
        default=None,
        validator=attrs.validators.optional(_part(_REVISION, "a commit, branch or tag")),
    )

    def __str__(self) -> str:
        return f"hub:{self.repo}" + (f"@{self.revision}" if self.revision else "")


@attrs.frozen
class Local:
    """A file or folder of this machine; as text `file:path`."""

    path: str = attrs.field(validator=_part(r"(?s:.*\S.*)", "a path that is not empty"))

    def __str__(self) -> str:
        return f"file:{self.path}"


@attrs.frozen
class Output:
    """An artifact that an earlier stage of the experiment makes; as text `stage:train_2d/unet`."""

    stage: str = attrs.field(validator=_part(r"[A-Za-z_]\w*", "the name of a stage"))
    artifact: str = attrs.field(validator=_part(r"[\w.-]+", "the name of an artifact"))

    def __str__(self) -> str:
        return f"stage:{self.stage}/{self.artifact}"


Source: TypeAlias = Hub | Local | Output
"""Where a stage's input comes from."""

SOURCE_FORMS: Final[dict[type, str]] = {
    Hub: "hub:org/name[@revision]",
    Local: "file:path",
    Output: "stage:name/artifact",
}
