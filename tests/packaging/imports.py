"""Read which module imports which, without importing any of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("export", "runtimes", "benchmarks")


@dataclass(frozen=True)
class Import:
    """One import of `target` by `module`; `at_import` unless it waits for a call or a type checker."""

    module: str
    target: str
    at_import: bool
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def sources(root: Path = ROOT) -> dict[str, Path]:
    """Installed module name -> source file, for the package and its stages under `root`."""
    found = {}
    for folder in ("nanonet_edge", *STAGES):
        prefix = () if folder == "nanonet_edge" else ("nanonet_edge",)
        for path in sorted((root / folder).rglob("*.py")):
            parts = (*prefix, *path.relative_to(root).with_suffix("").parts)
            name = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(name)] = path
    return found


def imports(modules: dict[str, Path]) -> list[Import]:
    """Every import in `modules`; a name imported from one of its packages counts as the submodule."""
    found = []
    for module, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for node, at_import in _statements(tree, at_import=True):
            found += [Import(module, target, at_import, node.lineno) for target in _targets(node, modules)]
    return found


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Import cycles, each as the path that closes it."""
    done: set[str] = set()
    found = []

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(edges.get(module, ())):
                visit(target, [*path, module])
            done.add(module)

    for module in sorted(edges):
        visit(module, [])
    return found


def _statements(node: ast.AST, at_import: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, at_import
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for statement in child.body:
                yield from _statements(ast.Module([statement], []), at_import=False)
            for statement in child.orelse:
                yield from _statements(ast.Module([statement], []), at_import)
        else:
            waits = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _statements(child, at_import and not waits)


def _targets(node: ast.Import | ast.ImportFrom, modules: dict[str, Path]) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if node.level or node.module is None:
        raise ValueError(f"line {node.lineno}: relative import")
    names = {f"{node.module}.{alias.name}" for alias in node.names}
    submodules = names & modules.keys()
    return submodules if submodules == names else submodules | {node.module}
