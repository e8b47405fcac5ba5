"""Draws the module structure of the code from its imports, and checks the limits that keep it readable.

    python tools/house.py            prints the drawing and fails if a limit is exceeded
    python tools/house.py --write    also writes the drawing into docs/architecture.md

All imports count: at the top of a module, inside functions, and those for type checkers only. A module's *floor* is one
more than the highest floor among the modules of its package that it imports. Only the standard library is needed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMESPACE = "equipoise"
MAX_FLOORS = {"fleet": 6, "validators": 7, "exporters": 7, "convert": 9, "cli": 4}
MAX_MODULES_IN_A_FOLDER = 12
PLUGIN_FOLDERS = frozenset(
    {
        "convert/archs",
        "convert/containers",
        "convert/layouts",
        "exporters/targets",
        "exporters/lowering/ops",
        "validators/tasks",
        "validators/audit/readers",
        "validators/backends/classes",
        "validators/backends/programs",
        "cli",
    }
)
"""Folders in which each module is a plug-in; they may have any number of modules."""
MAX_ANY_PER_1000_LINES = {"fleet": 40, "exporters": 40, "validators": 20, "convert": 20}

PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawing: begin -->", "<!-- drawing: end -->"

Graph = Mapping[str, frozenset[str]]
"""The modules or folders that each module or folder imports."""


@dataclass(frozen=True)
class Package:
    """One of the top-level folders.

    Attributes:
        name: The folder's name.
        files: The file of each module, by dotted name without the namespace.
    """

    name: str
    files: Mapping[str, Path]

    @cached_property
    def imports(self) -> dict[str, frozenset[str]]:
        """The modules of this package that each module imports."""
        return {
            module: frozenset(_imported_modules(path, self.files)) - {module}
            for module, path in self.files.items()
        }

    @cached_property
    def floors(self) -> dict[str, int]:
        """The floor of every module; a module on floor 1 imports nothing of the package."""
        return compute_floors(self.imports)

    @cached_property
    def folders(self) -> dict[str, list[str]]:
        """The names of the modules in each folder, without ``__init__``."""
        found: dict[str, list[str]] = {}
        for module, path in self.files.items():
            if path.name != "__init__.py":
                folder = module.rpartition(".")[0]
                found.setdefault(folder, []).append(module.rpartition(".")[2])
        return found

    @cached_property
    def folder_imports(self) -> dict[str, frozenset[str]]:
        """The other folders that the modules of each folder import; the package's own ``__init__`` is left out."""
        folder_of = {
            module: module if path.name == "__init__.py" else module.rpartition(".")[0]
            for module, path in self.files.items()
        }
        found: dict[str, set[str]] = {folder: set() for folder in folder_of.values()}
        for module, imported in self.imports.items():
            if module != self.name:
                others = {folder_of[one] for one in imported}
                found[folder_of[module]] |= others - {folder_of[module]}
        return {folder: frozenset(others) for folder, others in found.items()}


def read_package(name: str) -> Package:
    """Returns the package of a top-level folder."""
    files = {}
    for path in sorted((ROOT / name).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return Package(name, files)


def _imported_modules(path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    """Yields the modules among ``files`` that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{NAMESPACE}."):
            base = str(node.module).removeprefix(f"{NAMESPACE}.")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in files:
                    yield inner
                elif base in files:
                    yield base
        elif isinstance(node, ast.Import):
            names = (alias.name.removeprefix(f"{NAMESPACE}.") for alias in node.names)
            yield from (name for name in names if name in files)


def compute_floors(graph: Graph) -> dict[str, int]:
    """Returns the floor of every node of a graph without circles.

    >>> compute_floors({"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset()})
    {'c': 1, 'b': 2, 'a': 3}
    """
    found: dict[str, int] = {}

    def floor(node: str) -> int:
        if node not in found:
            found[node] = 0  # ends the recursion in a circle, which find_circles() reports
            found[node] = 1 + max(map(floor, graph[node]), default=0)
        return found[node]

    for node in graph:
        floor(node)
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def find_circles(graph: Graph) -> list[list[str]]:
    """Returns the circles of a graph: groups of nodes that all reach each other.

    >>> find_circles({"a": frozenset({"b"}), "b": frozenset({"a"}), "c": frozenset({"a"})})
    [['a', 'b']]
    """
    reach = {node: _reachable_nodes(graph, node) for node in graph}
    groups = {
        tuple(sorted(other for other in reach[node] if node in reach[other]))
        for node in graph
        if node in reach[node]
    }
    return [list(group) for group in sorted(groups)]


def _reachable_nodes(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += graph[node]
    return found


def count_any(files: Iterable[Path]) -> float:
    """Returns how often ``Any`` is used per 1,000 lines."""
    uses = lines = 0
    for path in files:
        text = path.read_text(encoding="utf-8")
        lines += text.count("\n")
        uses += sum(
            isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(ast.parse(text))
        )
    return 1000 * uses / lines


def find_violations(package: Package) -> list[str]:
    """Returns a message for each limit that a package exceeds."""
    found = []
    highest = max(package.floors.values())
    if highest > MAX_FLOORS[package.name]:
        found.append(f"{package.name}: {highest} floors, at most {MAX_FLOORS[package.name]}")
    found += [f"{package.name}: circle of modules {one}" for one in find_circles(package.imports)]
    found += [
        f"{package.name}: circle of folders {one}" for one in find_circles(package.folder_imports)
    ]
    for folder, modules in package.folders.items():
        is_plugins = folder.replace(".", "/") in PLUGIN_FOLDERS
        if len(modules) > MAX_MODULES_IN_A_FOLDER and not is_plugins:
            found.append(f"{folder}: {len(modules)} modules, at most {MAX_MODULES_IN_A_FOLDER}")
    uses = count_any(package.files.values())
    limit = MAX_ANY_PER_1000_LINES.get(package.name)
    if limit is not None and uses >= limit:
        found.append(f"{package.name}: Any {uses:.0f} times in 1,000 lines, fewer than {limit}")
    return found


def draw_structure(packages: Iterable[Package]) -> str:
    """Returns the folders of every package from the highest floor to the lowest, with their modules."""
    lines = []
    for package in packages:
        lines.append(f"{package.name}/  {max(package.floors.values())} floors")
        levels = compute_floors(package.folder_imports)
        for folder in sorted(package.folders, key=lambda one: (-levels[one], one)):
            name = folder.removeprefix(package.name).lstrip(".").replace(".", "/")
            modules = package.folders[folder]
            label = f"  {f'{name}/' if name else '(top)':<22}"
            others = sorted(
                one.removeprefix(package.name).lstrip(".").replace(".", "/") or "(top)"
                for one in package.folder_imports[folder]
                if one in package.folders
            )
            imports = ["<-", *others] if others else []
            lines += _wrap(label, [*sorted(modules), *imports])
        lines.append("")
    return "\n".join(lines).rstrip()


def _wrap(label: str, words: list[str], width: int = 150) -> list[str]:
    """Returns a label followed by words, wrapped to a limited width."""
    lines, line = [], label
    for word in words:
        if len(line) + len(word) + 1 > width and line.strip():
            lines.append(line.rstrip())
            line = " " * len(label)
        line += f"{word} "
    return [*lines, line.rstrip()]


def write_page(text: str) -> None:
    """Writes the drawing into the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    block = f"{BEGIN}\n```text\n{text}\n```\n{END}"
    PAGE.write_text(f"{before}{block}{after}", encoding="utf-8")


def main() -> int:
    """Prints the drawing; returns 1 if a limit is exceeded."""
    packages = [read_package(name) for name in MAX_FLOORS]
    text = draw_structure(packages)
    print(text)
    if "--write" in sys.argv[1:]:
        write_page(text)
    found = [line for package in packages for line in find_violations(package)]
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
