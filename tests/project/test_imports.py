"""Imports run one way, and `import vmsnap_nb` is light.

words <- errors <- model <- plans <- views and model <- system; live joins the two sides; lab, panels, fleet and
command use live; course needs only model; playground uses course, live, and the texts of lab's exercises.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from support import TESTS

import vmsnap_nb

PACKAGE = Path(vmsnap_nb.__file__).parent

# Each layer may import these (and itself).
BELOW: dict[str, frozenset[str]] = {
    "words": frozenset(),
    "errors": frozenset({"words"}),
    "model": frozenset({"words", "errors"}),
    "plans": frozenset({"words", "errors", "model"}),
    "views": frozenset({"words", "errors", "model", "plans"}),
    "course": frozenset({"words", "errors", "model"}),
    "system": frozenset({"words", "errors", "model"}),
    "live": frozenset({"words", "errors", "model", "plans", "views", "system"}),
    "lab": frozenset({"words", "errors", "model", "plans", "views", "system", "live"}),
    "panels": frozenset({"words", "errors", "model", "plans", "views", "system", "live"}),
    "fleet": frozenset({"words", "errors", "model", "plans", "views", "system", "live"}),
    "command": frozenset({"words", "errors", "model", "plans", "views", "system", "live", "fleet"}),
    "playground": frozenset({"words", "errors", "model", "plans", "views", "course", "live", "lab"}),
    "__main__": frozenset({"command"}),
}

# Inside a function (a display hook, or what is loaded when it is first needed) these may be imported as well.
HOOKS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("errors", "model", "plans"), frozenset({"views"})),
    "words": frozenset({"errors"}),
}

# For annotations alone, an error may name the types of what it carries.
ANNOTATIONS: dict[str, frozenset[str]] = {"errors": frozenset({"model", "plans"})}

PURE = ("errors", "model", "plans")
HEAVY = (
    "pandas",
    "numpy",
    "graphviz",
    "tqdm",
    "libvirt",
    "libvirt_qemu",
    "ipywidgets",
    "anywidget",
    "IPython",
    "matplotlib",
    "zstandard",
    "babel",
    "pytsk3",
    "pyfsxfs",
    "resvg_py",
)


@dataclass(frozen=True)
class Import:
    """One imported module: from where, and whether inside a function or for type checkers only."""

    file: str
    line: int
    layer: str
    target: str
    lazy: bool
    typing_only: bool

    @property
    def target_layer(self) -> str | None:
        package, _, rest = self.target.partition(".")
        return (rest.partition(".")[0] or "") if package == "vmsnap_nb" else None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.layer} imports {self.target}"


def layer_of(path: Path, root: Path) -> str:
    """Layer that the module at `path` belongs to; empty for the root of the package."""
    first = path.relative_to(root).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """Each import statement of the module, of each module that it names."""
    layer = layer_of(path, root)
    relative = path.relative_to(root.parent)
    package = list(relative.with_suffix("").parts[:-1])

    def walk(node: ast.AST, lazy: bool, typing_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            targets: list[str] = []
            if isinstance(child, ast.Import):
                targets = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                start = package[: len(package) - child.level + 1] if child.level else []
                module = ".".join([*start, *([child.module] if child.module else [])])
                # `from vmsnap_nb import model` and `from .. import model` name layers, not values.
                targets = [f"{module}.{alias.name}" for alias in child.names] if module == "vmsnap_nb" else [module]
            for target in targets:
                yield Import(str(relative), child.lineno, layer, target, lazy, typing_only)  # type: ignore[attr-defined]
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
                for statement in child.body:
                    yield from walk(ast.Module([statement], []), lazy, True)
                for statement in child.orelse:
                    yield from walk(ast.Module([statement], []), lazy, typing_only)
            else:
                yield from walk(child, inside, typing_only)

    yield from walk(ast.parse(path.read_text(encoding="utf-8"), str(path)), False, False)


def upward(found: Import) -> bool:
    """Whether the import goes against the direction."""
    target = found.target_layer
    if target is None or found.layer == "" or target in {found.layer, "", "__version__"}:
        # The root loads everything lazily; its own imports have their own test below.
        return False
    allowed = BELOW[found.layer]
    if found.lazy:
        allowed |= HOOKS.get(found.layer, frozenset())
    if found.typing_only:
        allowed |= ANNOTATIONS.get(found.layer, frozenset())
    return target not in allowed


# Within these packages, each module (or folder of modules) may import those before it, and what is in its own folder.
ORDER: dict[str, tuple[tuple[str, ...], ...]] = {
    "plans": (
        ("by_hand", "concern", "freed", "journal", "machine"),
        ("step",),
        ("script",),
        ("facts", "plan"),
        ("compare", "request"),
        ("report",),
        ("checks",),
        ("overlay", "repair"),
        ("snapshot",),
        ("merge", "save"),
        ("delete", "findings", "leftovers", "revert"),
        ("disk_states",),
        ("lost_states",),
    ),
    "live": (
        (
            "base_records",
            "cards",
            "claim",
            "confined",
            "forbidden_folders",
            "freed",
            "image_names",
            "journal",
            "open_images",
        ),
        ("files", "libvirt_images", "listed_layers", "phases", "saved"),
        ("check", "internal_snapshots", "job", "step_action"),
        ("lost_files", "place", "progress", "report"),
        ("plan", "reading"),
        ("chain", "image_actions", "image_files", "leftovers", "space", "volumes"),
        ("html_page",),
        ("forest",),
        ("connection", "folders", "journal_notices"),
        ("handle",),
        ("commands", "findings", "guest_actions", "remote_chain", "snapshot_lists"),
        ("guest_files", "host_chapter", "power"),
        ("guest",),
        ("host",),
    ),
    "fleet": (
        ("shared",),
        ("member",),
        ("readings", "slots"),
        ("work",),
        ("guests",),
        ("fleet",),
        ("connect",),
    ),
    "command": (
        ("completion", "given", "fitted", "signals", "where"),
        ("grammar", "output"),
        ("verbs",),
        ("acting", "reading"),
        ("checking", "reporting"),
        ("main",),
    ),
}

MODULES = sorted(PACKAGE.rglob("*.py"))


@cache
def imports() -> list[Import]:
    """Each import of the package: found where a test looks at them, since it takes most of a second."""
    return [found for path in MODULES for found in imports_of(path, PACKAGE)]


def test_every_module_belongs_to_a_layer() -> None:
    assert {layer_of(path, PACKAGE) for path in MODULES} <= {"", *BELOW}


def test_imports_run_one_way() -> None:
    assert [str(found) for found in imports() if upward(found)] == []


def place_in_order(package: str, module: str) -> int | None:
    """Rank of a module of a package that has an order, by its dotted name without the package's; None for the root."""
    name = module.partition(".")[0]
    return next((rank for rank, names in enumerate(ORDER[package]) if name in names), None) if name else -1


@pytest.mark.parametrize("package", ORDER)
def test_modules_of_a_package_import_in_order(package: str) -> None:
    prefix = f"vmsnap_nb.{package}."
    wrong = []
    for found in imports():
        if found.layer != package or found.typing_only or not found.target.startswith(prefix):
            continue
        source = ".".join(Path(found.file).with_suffix("").parts[2:]).removesuffix(".__init__")
        target = found.target.removeprefix(prefix)
        mine, theirs = place_in_order(package, source), place_in_order(package, target)
        assert mine is not None, f"{source} has no place in the order"
        assert theirs is not None, f"{target} has no place in the order"
        same_folder = source.partition(".")[0] == target.partition(".")[0] and "." in source
        if theirs > mine or (theirs == mine and not same_folder):
            wrong.append(str(found))
    assert wrong == []


def test_no_circle_of_modules() -> None:
    edges: dict[str, set[str]] = {}
    for found in imports():
        if not found.typing_only and not found.lazy and found.target.startswith("vmsnap_nb."):
            source = ".".join(Path(found.file).with_suffix("").parts).removesuffix(".__init__")
            edges.setdefault(source, set()).add(found.target)
    done: set[str] = set()

    def walk(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module not in done:
            for target in sorted(edges.get(module, ())):
                walk(target, (*above, module))
            done.add(module)

    for module in sorted(edges):
        walk(module, ())


def test_live_imports_nothing_inside_a_function() -> None:
    inside = [found for found in imports() if found.layer == "live" and found.lazy and found.target_layer]
    assert [str(found) for found in inside if found.target_layer != "views"] == []


def test_nothing_imports_panels() -> None:
    found = [i for i in imports() if i.target_layer == "panels" and i.layer != "panels"]
    assert [str(i) for i in found if not (i.layer == "" and (i.lazy or i.typing_only))] == []


def test_the_root_imports_no_layer_at_once() -> None:
    at_once = [i for i in imports() if i.layer == "" and i.target_layer and not (i.lazy or i.typing_only)]
    assert [str(i) for i in at_once if i.target_layer != "errors"] == []


def test_pure_layers_use_the_standard_library_alone() -> None:
    foreign = [
        i
        for i in imports()
        if i.layer in PURE and i.target_layer is None and i.target.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert [str(i) for i in foreign if not i.typing_only] == []


# --- the walk itself: it sees what it shall see -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "source", "wrong"),
    [
        ("model", "from vmsnap_nb.plans.plan import Plan", True),
        ("model", "from vmsnap_nb import errors, live", True),
        ("model", "from ..system import qcow2", True),
        ("model", "from .. import views", True),
        ("model", "from .image import Image", False),
        ("model", "from . import image", False),
        ("model", "import vmsnap_nb.system.qcow2.header as q", True),
        ("model", "def f():\n    from vmsnap_nb.views.text import figure", False),
        ("model", "class C:\n    from vmsnap_nb.views.text import figure", True),
        ("model", "def f():\n    from vmsnap_nb.system.qcow2.header import read", True),
        ("plans", "def f():\n    import vmsnap_nb.live.host", True),
        ("views", "def f():\n    from vmsnap_nb.system import run", True),
        ("views", "from vmsnap_nb.plans import Plan", False),
        ("system", "from vmsnap_nb.plans import Plan", True),
        (
            "system",
            "if True:\n    try:\n        from vmsnap_nb.live import Host\n    except ImportError:\n        pass",
            True,
        ),
        ("live", "def f():\n    from vmsnap_nb.panels import panel", True),
        ("lab", "from vmsnap_nb.panels import panel", True),
        ("panels", "from vmsnap_nb.lab import Lab", True),
        ("lab", "from vmsnap_nb.live import Host", False),
        ("errors", "if TYPE_CHECKING:\n    from vmsnap_nb.plans.plan import Concern", False),
        ("errors", "from vmsnap_nb.plans.plan import Concern", True),
        ("model", "if TYPE_CHECKING:\n    from vmsnap_nb.plans.plan import Concern", True),
        ("system", "import libvirt", False),
    ],
)
def test_the_walk_tells_direction(tmp_path: Path, layer: str, source: str, wrong: bool) -> None:
    root = tmp_path / "vmsnap_nb"
    (root / layer).mkdir(parents=True)
    module = root / layer / "m.py"
    module.write_text(source, encoding="utf-8")
    if layer == "errors":  # the one layer that is a single file
        module = module.rename(root / "errors.py")
    assert any(upward(found) for found in imports_of(module, root)) is wrong


# --- tests ------------------------------------------------------------------------------------------------------


def imported_by(source: str) -> set[str]:
    """Modules that the code imports, also within functions, and in code that it has as text for other processes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module or ''}.{alias.name}" for alias in node.names)
            found.add(node.module or "")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(re.findall(r"(?m)^\s*(?:from|import) ([\w.]+)", node.value))
    return found


def is_a_test(module: str) -> bool:
    return any(part.startswith("test_") or part == "conftest" for part in module.split("."))


@pytest.mark.parametrize(
    "source",
    [
        "from views.test_draw import normal",
        "from views import test_draw",
        "import views.test_draw",
        "def f():\n    from conftest import lab",
        'CODE = """\nfrom live.test_plan import ListWorld\n"""',
    ],
)
def test_an_import_from_a_test_is_seen(source: str) -> None:
    assert any(map(is_a_test, imported_by(source)))


def test_no_test_imports_from_another() -> None:
    """What several tests need is in tests/support."""
    found = {
        str(path.relative_to(TESTS)): imported_by(path.read_text(encoding="utf-8")) for path in TESTS.rglob("*.py")
    }
    # This file has such imports as examples.
    found.pop("project/test_imports.py")
    assert {path: wrong for path, modules in found.items() if (wrong := set(filter(is_a_test, modules)))} == {}


# --- in a fresh interpreter -------------------------------------------------------------------------------------


def loaded_by(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has after the statement (and not before)."""
    code = f"import sys; before = set(sys.modules)\n{statement}\nprint(*sorted(set(sys.modules) - before))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(result.stdout.splitlines()[-1].split())


def test_import_loads_nothing_heavy() -> None:
    assert loaded_by("import vmsnap_nb") & set(HEAVY) == set()


def test_help_loads_nothing_heavy() -> None:
    """The command line answers at once, also what a shell asks to complete."""
    loaded = loaded_by("from vmsnap_nb.command.main import main; assert main(['plan', 'commit', '--help']) == 0")
    assert loaded & set(HEAVY) == set()


def test_the_playground_loads_where_the_system_has_no_users() -> None:
    """Pyodide lacks these modules of CPython."""
    without = ("grp", "pwd", "resource", "termios", "curses", "syslog", "libvirt")
    assert "vmsnap_nb.live.forest" in loaded_by(
        f"sys.modules.update(dict.fromkeys({without})); import vmsnap_nb.playground.session"
    )


def test_import_loads_few_modules() -> None:
    # Time is measured by benchmarks/bench_import.py; the count of modules is the same on every machine.
    loaded = loaded_by("import vmsnap_nb")
    assert "vmsnap_nb" in loaded
    assert len(loaded) < 60, sorted(loaded)


@pytest.mark.parametrize("layer", ["errors", "model", "plans"])
def test_pure_layers_load_nothing_heavy(layer: str) -> None:
    modules = [p for p in MODULES if layer_of(p, PACKAGE) == layer]
    names = [".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in modules]
    loaded = loaded_by("import " + ", ".join(name.removesuffix(".__init__") for name in names))
    assert loaded & set(HEAVY) == set()
    above = set(BELOW) - BELOW[layer] - {layer}
    assert [m for m in loaded if m.startswith(tuple(f"vmsnap_nb.{other}" for other in above))] == []


def test_every_public_name_is_listed() -> None:
    assert set(vmsnap_nb.__all__) <= set(dir(vmsnap_nb))
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        vmsnap_nb.no_such_name  # noqa: B018
