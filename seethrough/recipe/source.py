"""Reads a recipe class in its source file: docstrings of fields, decorators, and line numbers."""

import ast
import functools
import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

import attrs

from seethrough.recipe.errors import RecipeError


@attrs.frozen
class Lines:
    """Line of an assignment, and of each keyword in the call that it assigns."""

    line: int
    keywords: Mapping[str, "Lines"]


@attrs.frozen
class ClassSource:
    """What the source of one class says and the class object does not."""

    name: str
    file: str
    line: int
    decorated: bool
    docs: Mapping[str, str]
    """Docstring under each annotated assignment that has one."""
    lines: Mapping[str, Lines]
    """Every name that the class body assigns or defines."""

    def place(self, name: str | None = None) -> str:
        """`file:line` of the class, or of one of its names."""
        line = self.lines[name].line if name is not None and name in self.lines else self.line
        return f"{shown_path(self.file)}:{line}"


def caller(depth: int) -> FrameType:
    """The frame that lies `depth` calls above the function that asks."""
    frame = inspect.currentframe()
    for _ in range(depth + 1):
        frame = frame and frame.f_back
    assert frame is not None
    return frame


def shown_path(file: str) -> str:
    """The path as a reader wants it: relative below the current folder, else absolute."""
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative


def read_class(cls: type, frame: FrameType) -> ClassSource:
    """Find the class statement of `cls` that is being executed in `frame`."""
    file = os.path.abspath(frame.f_code.co_filename)
    try:
        found = _classes(file, Path(file).stat().st_mtime_ns).get(cls.__qualname__, ())
    except (OSError, SyntaxError, ValueError):
        found = ()
    for node in found:
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        if first <= frame.f_lineno <= (node.end_lineno or node.lineno):
            return _describe(cls.__qualname__, file, node)
    raise RecipeError(
        f"{shown_path(file)}:{frame.f_lineno}: cannot read the source of class {cls.__qualname__}; "
        f"recipe classes have to stand as class statements in a file"
    )


@functools.cache
def _classes(file: str, mtime_ns: int) -> Mapping[str, tuple[ast.ClassDef, ...]]:
    """All class statements of a file by qualified name; `mtime_ns` renews the cache."""
    found: dict[str, tuple[ast.ClassDef, ...]] = {}
    for name, node in _walk(ast.parse(Path(file).read_bytes()), ""):
        found[name] = (*found.get(name, ()), node)
    return found


def _walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name, child
            yield from _walk(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _walk(child, f"{prefix}{child.name}.<locals>.")
        elif isinstance(child, ast.stmt):
            yield from _walk(child, prefix)


def _describe(name: str, file: str, node: ast.ClassDef) -> ClassSource:
    docs: dict[str, str] = {}
    lines: dict[str, Lines] = {}
    for statement, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            lines[statement.target.id] = _lines(statement.value, statement.lineno)
            doc = _text(after)
            if doc is not None:
                docs[statement.target.id] = doc
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        lines[part.id] = Lines(statement.lineno, {})
        elif isinstance(statement, ast.FunctionDef):
            lines[statement.name] = Lines(statement.lineno, {})
    return ClassSource(
        name=name,
        file=file,
        line=node.lineno,
        decorated=any(_is_recipe(decorator) for decorator in node.decorator_list),
        docs=docs,
        lines=lines,
    )


def _is_recipe(decorator: ast.expr) -> bool:
    if isinstance(decorator, ast.Attribute):
        return decorator.attr == "recipe"
    return isinstance(decorator, ast.Name) and decorator.id == "recipe"


def _text(statement: ast.stmt | None) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        if isinstance(value, str) and value.strip():
            return " ".join(value.split())
    return None


def _lines(value: ast.expr | None, line: int) -> Lines:
    keywords: dict[str, Lines] = {}
    if isinstance(value, ast.Call):
        for keyword in value.keywords:
            if keyword.arg is not None:
                keywords[keyword.arg] = _lines(keyword.value, keyword.lineno)
    return Lines(line, keywords)
