"""`@recipe`: makes a class a frozen recipe, and refuses what attrs would let pass in silence."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, dataclass_transform, get_origin

import attrs

from seethrough.recipe.base import ClassFacts, Field, Origin, Recipe, facts
from seethrough.recipe.errors import RecipeError, nearest
from seethrough.recipe.kinds import is_execution, narrower, spell, unsupported
from seethrough.recipe.merge import Change, checked, merge, replaced_whole
from seethrough.recipe.origins import Reference, defaults_of, given_in_class, trace
from seethrough.recipe.source import ClassSource, caller, read_class

R = TypeVar("R", bound=Recipe)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def recipe(cls: type[R]) -> type[R]:
    """Make `cls` a recipe class.

    Every new field is annotated, has a default (or REQUIRED) and a docstring under it; a field of
    a base is overridden by annotating it again. Raises `RecipeError` with file and line.
    """
    source = read_class(cls, caller(1))
    return _Declaration(cls, source).make()


class _Declaration:
    """One class on its way to becoming a recipe."""

    def __init__(self, cls: type[Any], source: ClassSource) -> None:
        self.cls = cls
        self.source = source
        self.annotations: dict[str, Any] = {
            name: kind
            for name, kind in inspect.get_annotations(cls).items()
            if get_origin(kind) is not ClassVar and kind is not ClassVar
        }
        self.inherited: dict[str, Field] = {}
        self.defaults: dict[str, Reference] = {}
        """Inherited defaults by field, with the origins of what lies below them."""
        self.origins: dict[str, Any] = {}
        for base in reversed(cls.__mro__[1:]):
            if "__recipe__" in base.__dict__:
                self.inherited |= facts(base).fields
                self.origins |= facts(base).origins
                whole = defaults_of(base)
                for name in facts(base).fields:
                    below = whole.below(name)
                    if below is not None:
                        self.defaults[name] = below

    def fail(self, name: str | None, what: str) -> RecipeError:
        """An error at the line of a name, or of the class."""
        full = self.cls.__qualname__ + (f".{name}" if name else "")
        return RecipeError(f"{self.source.place(name)}: {full}: {what}")

    def make(self) -> type[Any]:
        if not issubclass(self.cls, Recipe):
            raise self.fail(None, "@recipe needs a class derived from Section, Stage or Experiment")
        if not (self.cls.__dict__.get("__doc__") or "").strip():
            raise self.fail(None, "has no docstring; say under the class line what it is")
        self.refuse_bare_names()
        fields = dict(self.inherited)
        for name, kind in self.annotations.items():
            fields[name] = self.field(name, kind)
            setattr(self.cls, name, self.default(fields[name]))
        made = attrs.define(
            self.cls,
            frozen=True,
            kw_only=True,
            slots=True,
            field_transformer=lambda _, attributes: _attributes(fields, attributes),
        )
        placeholder: Any = None  # the default instance needs the fields, the facts the instance
        made.__recipe__ = ClassFacts(fields, {}, placeholder, self.source)
        try:
            default = made()
        except RecipeError as problem:
            raise self.fail(None, str(problem)) from None
        made.__recipe__ = ClassFacts(fields, {}, default, self.source)
        made.__recipe__ = attrs.evolve(made.__recipe__, origins=self.trace(made, default))
        return made

    def refuse_bare_names(self) -> None:
        """Refuse assignments that would look like an override and be none."""
        every = inspect.get_annotations(self.cls)
        for name, value in self.cls.__dict__.items():
            if name.startswith("_") or name in every:
                continue
            if name in self.inherited:
                kind = spell(self.inherited[name].kind)
                raise self.fail(
                    name, f"would not change the field; annotate it: {name}: {kind} = ..."
                )
            if not callable(value) and not hasattr(value, "__get__"):
                raise self.fail(
                    name,
                    "is assigned without annotation and would be no field; annotate it, with "
                    f"ClassVar for a constant ({nearest(name, self.inherited)})",
                )

    def field(self, name: str, kind: Any) -> Field:
        """What is known about an annotated name, once it is found sound."""
        base = self.inherited.get(name)
        problem = unsupported(kind)
        if problem is not None:
            raise self.fail(name, problem)
        if name not in self.cls.__dict__:
            raise self.fail(name, "has no default; give one, or REQUIRED")
        doc = self.source.docs.get(name)
        if base is not None:
            if not narrower(kind, base.kind):
                raise self.fail(name, f"{spell(kind)} is wider than {spell(base.kind)} of its base")
            execution = base.execution or is_execution(kind)
            return Field(name, (kind, *base.kinds), doc or base.doc, execution)
        if name.startswith("_") or hasattr(Recipe, name) or self.shadows(name):
            raise self.fail(name, "cannot be a field: the name belongs to the language or a method")
        if doc is None:
            known = f" ({nearest(name, self.inherited)})" if self.inherited else ""
            raise self.fail(
                name, f"is no field of a base, and a new field needs a docstring under it{known}"
            )
        return Field(name, (kind,), doc, is_execution(kind))

    def shadows(self, name: str) -> bool:
        return any(hasattr(base, name) for base in self.cls.__mro__[1:] if base is not object)

    def default(self, field: Field) -> Any:
        """The default with `change(...)` resolved against what the base has."""
        value: Any = self.cls.__dict__[field.name]
        inherited = self.defaults.get(field.name)
        try:
            if isinstance(value, Change):
                value = merge(inherited.value if inherited else None, value, field.name)
            elif isinstance(value, Recipe) and inherited and isinstance(inherited.value, Recipe):
                raise RecipeError(
                    f"{field.name}: {replaced_whole(field.name, inherited.value, value)}"
                )
            return checked(field.kinds, value, field.name)
        except RecipeError as problem:
            # The message begins with the field's name, and a change's goes on to what lies below.
            place = self.source.place(field.name)
            raise RecipeError(f"{place}: {self.cls.__qualname__}.{problem}") from None

    def trace(self, made: type[Recipe], default: Recipe) -> Mapping[str, Any]:
        """Origins of the defaults: lines of this class, else those of its bases."""
        by, file = self.cls.__qualname__, self.source.file
        found = {
            path: origin
            for path, origin in self.origins.items()
            if path.partition(".")[0] not in self.annotations
        }
        for name in self.annotations:
            lines = self.source.lines[name]
            here = Origin(by, file, lines.line)
            given = given_in_class(lines, by, file)
            value: Any = object.__getattribute__(default, name)
            base = self.defaults.get(name)
            below = trace(value, here, given.below, [base] if base else [])
            kept = base is not None and type(base.value) is type(value)
            found[name] = self.origins[name] if kept and isinstance(value, Recipe) else here
            found |= {f"{name}.{path}": origin for path, origin in below.items()}
        return found


def _attributes(
    fields: Mapping[str, Field], attributes: "list[attrs.Attribute[Any]]"
) -> "list[attrs.Attribute[Any]]":
    """Give each attribute its check, in the order in which the fields were defined."""
    by_name = {attribute.name: attribute for attribute in attributes}
    return [
        by_name[name].evolve(converter=attrs.Converter(_Checked(field), takes_self=True))
        for name, field in fields.items()
    ]


@attrs.frozen
class _Checked:
    """Checks a value of a field, and turns an int into a float where the field holds floats."""

    field: Field

    def __call__(self, value: Any, instance: attrs.AttrsInstance) -> Any:
        return checked(self.field.kinds, value, f"{type(instance).__name__}.{self.field.name}")
