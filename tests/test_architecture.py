"""What each room may import, and who may remove."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools.checkout import CHECKOUT

pytestmark = pytest.mark.one_engine(by="function")


# The rooms, lowest first. A room may import the rooms before it, and itself without a circle.
ROOMS = ("rules", "storage", "models", "lab", "ledger", "runs", "clears", "sweeps", "monitoring")
# Each edge uses all rooms, and of the other edges those beside it.
EDGES: dict[str, set[str]] = {
    "text": set(),
    "templatetags": {"text"},
    "tasks": set(),
    "web": {"tasks", "text"},
    "admin": {"text"},
    "checks": {"exlab"},
    "demo": set(),
    "apps": {"checks"},
    "management": {"checks", "demo", "text", "exlab"},
    "migrations": set(),
    "exlab": set(),
    "former_names": set(),
    "": {"former_names"},  # `cleanup` itself: the names that are imported from it
}
# Of the rooms before them, these need less.
ONLY = {"models": {"rules"}, "migrations": {"models", "rules"}, "exlab": set()}
STANDARD_LIBRARY_ONLY = {"rules", "storage"}
WITHOUT_DJANGO = {
    "cleanup.lab.wizard.wizard_yaml",
    "cleanup.lab.wizard.wizard_config",
    "cleanup.lab.wizard.wizard_plan",
}
# module: what it may not import, although it stands in the same room
APART = {
    module: {
        *{"cleanup.clears.recovery", "cleanup.clears.nas_history", "cleanup.clears.receipt_delivery"},
        "cleanup.lab.nas.nas_outbox",
    }
    for module in ("cleanup.clears.protocol", "cleanup.clears.settlement")
}

# module and function: why it may remove or rename something that is no staged path
MAY_REMOVE = {
    ("cleanup.management.data_places", "_expect_back"): "its own note that the data directory was taken away",
    ("exlab.places", "_make_key"): "its own draft of the secret key in the data directory",
    ("cleanup.demo.making", "make"): "the demonstration lab that it has just built, before anybody knows of it",
    ("cleanup.demo.past", "move_in"): "runs that it has just built, on their way to the demo's staging disk",
    ("cleanup.demo.past", "_take_away"): "the one run that the demo shows as missing; it stays beside the staging disk",
    ("cleanup.demo.demo_plan", "keep"): "its own note of how far the demo has come",
    ("cleanup.storage.data_directory.datadir", "*"): "locks, plans and the reserve of the data directory",
    ("cleanup.storage.nas.clock", "read"): "the empty folder that it has just made on the NAS, to see its time",
    ("cleanup.storage.nas.laid_receipts", "_open_draft"): "our own draft of a receipt on the NAS",
    ("cleanup.storage.nas.laid_receipts", "_name"): "that draft, which gets a name that was not there",
    ("cleanup.storage.nas.record", "_take_away"): "our own draft beside the record on the NAS",
    ("cleanup.storage.nas.record", "_replace"): "that draft, which takes the place of the record it extends",
    ("cleanup.storage.data_directory.token_file", "take_away"): "its own file with a one-time token that is void",
    ("cleanup.storage.data_directory.kept_digests", "drop"): "its own file of what was read of a run so far",
}
# module: its functions that rename or remove on a staging disk
REMOVERS = {
    "cleanup.storage.staging.fences": {
        *{"fence", "put_back", "publish", "publish_copy"},
        *{"discard_prepared", "discard_challenge", "probe"},
    },
    "cleanup.storage.staging.removal": {"_unlink", "_remove_directory", "_remove_fence"},
    # Files that a person takes out of a run, and folders that this has emptied.
    "cleanup.storage.staging.set_aside": {"move", "tidy"},
    "cleanup.storage.root_files.reserve": {"lay_reserve", "release_reserve"},
    "cleanup.storage.root_files.markers": {"take_back"},
    "cleanup.storage.root_files.tokens": {"lay_token"},
}

REMOVING_FUNCTIONS = {"remove", "unlink", "rmdir", "rename", "renames", "replace", "removedirs", "rmtree", "move"}
REMOVING_METHODS = {"unlink", "rmdir", "rename", "rename_noreplace", "rmtree", "removedirs"}
CLOCKS = {"now", "utcnow", "today", "time", "time_ns", "monotonic", "localtime"}


def product_files() -> list[Path]:
    return sorted(path for folder in ("cleanup", "exlab") for path in (CHECKOUT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = list(path.relative_to(CHECKOUT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    if module.startswith("exlab"):
        return "exlab"
    room = ".".join(module.split(".")[1:2])
    if room not in ROOMS and room not in EDGES:
        raise KeyError(f"{module} stands in no room; give it one")
    return room


def may_import(room: str) -> set[str]:
    rooms = set(ROOMS[: ROOMS.index(room)]) if room in ROOMS else set(ROOMS) | EDGES[room]
    return ONLY.get(room, rooms)


def violations(module: str, source: str) -> list[str]:
    tree = ast.parse(source)
    return [f"{module}:{line} {words}" for line, words in sorted({*_imports(module, tree), *_deeds(module, tree)})]


def _imports(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    room = room_of(module)
    for line, imported in _imported(module, tree):
        top = imported.split(".")[0]
        if top in ("cleanup", "exlab"):
            if imported == "cleanup":
                continue
            other = room_of(imported)
            if imported in APART.get(module, ()):
                yield line, f"{module} imports {imported}"
            elif other != room and other not in may_import(room):
                yield line, f"{room} imports {other}"
        elif _is_kept_out(top, room, module):
            yield line, f"{room} imports {top}"
        elif room == "rules" and top in ("time", "os", "pathlib", "shutil"):
            yield line, f"rules imports {top}"
        elif top == "ctypes" and module != "cleanup.storage.linux":
            yield line, "ctypes outside linux.py"


def _is_kept_out(top: str, room: str, module: str) -> bool:
    if room in STANDARD_LIBRARY_ONLY:
        return top not in sys.stdlib_module_names
    return module in WITHOUT_DJANGO and top == "django"


def _imported(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")
                base = ".".join([*package[: len(package) - node.level], *filter(None, [node.module])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield node.lineno, deeper if _is_module(deeper) else base
        elif isinstance(node, ast.Call) and _name_of(node.func) in ("import_module", "__import__", "import_string"):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value


def _is_module(name: str) -> bool:
    path = CHECKOUT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def _deeds(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for function, node in _with_function(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "bare except"
        elif isinstance(node, ast.keyword) and node.arg == "ignore_errors":
            yield node.value.lineno, "ignore_errors"
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            yield node.value.lineno, "shell"
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil", "posix"):
            for alias in node.names:
                if alias.name in REMOVING_FUNCTIONS:
                    yield node.lineno, f"{alias.name} imported by its own name"
        elif isinstance(node, ast.Call):
            name = _name_of(node.func)
            if name in ("rmtree", "removedirs", "renames"):
                yield node.lineno, name
            elif _removes(node) and not _may_remove(module, function):
                yield node.lineno, f"{name} in {function or 'the module'}"
            elif module.startswith("cleanup.rules") and _asks_the_clock(node):
                yield node.lineno, f"rules asks the clock: {name}"


def _with_function(node: ast.AST, function: str = "") -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield inner, child
        yield from _with_function(child, inner)


def _name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _removes(call: ast.Call) -> bool:
    function = call.func
    if not isinstance(function, ast.Attribute):
        return _name_of(function) in REMOVING_METHODS
    if isinstance(function.value, ast.Name) and function.value.id in ("os", "shutil", "posix"):
        return function.attr in REMOVING_FUNCTIONS
    # Path.replace(target) has one argument; str.replace two, dataclasses' and datetime's only named ones.
    path_replace = function.attr == "replace" and len(call.args) == 1 and not call.keywords
    return function.attr in REMOVING_METHODS or path_replace


def _may_remove(module: str, function: str) -> bool:
    return function in REMOVERS.get(module, ()) or (module, function) in MAY_REMOVE or (module, "*") in MAY_REMOVE


def _asks_the_clock(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in CLOCKS


def imported_at_once(module: str, tree: ast.Module) -> set[str]:
    """The product's modules that are imported at load time: not in a function, not for types only."""
    now = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    return {name for _line, name in _imported(module, now) if name.startswith("cleanup.") and name != module}


def circle_in(imports: dict[str, set[str]]) -> list[str]:
    """A circular chain of imports; empty if there is none."""
    done: set[str] = set()

    def follow(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        found = next(filter(None, (follow(other, [*way, module]) for other in sorted(imports.get(module, ())))), [])
        done.add(module)
        return found

    return next(filter(None, (follow(module, []) for module in sorted(imports))), [])


def test_no_module_leads_back_to_itself() -> None:
    imports = {
        module_of(path): imported_at_once(module_of(path), ast.parse(path.read_text())) for path in product_files()
    }
    assert circle_in(imports) == []


def test_a_circle_is_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


@pytest.mark.parametrize("path", product_files(), ids=module_of)
def test_keeps_the_rules(path: Path) -> None:
    assert violations(module_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source", "rule"),
    [
        ("cleanup.storage.staging.run_tree", "import django", "storage imports django"),
        ("cleanup.storage.staging.run_tree", "from cleanup.models import Run", "storage imports models"),
        ("cleanup.storage.staging.run_tree", "from cleanup import models", "storage imports models"),
        ("cleanup.storage.staging.run_tree", "from ... import models", "storage imports models"),
        ("cleanup.rules.gates", "from django.utils import timezone", "rules imports django"),
        ("cleanup.rules.gates", "from cleanup.storage import run_paths", "rules imports storage"),
        ("cleanup.rules.gates", "import os", "rules imports os"),
        ("cleanup.lab.wizard.wizard_plan", "from django.conf import settings", "lab imports django"),
        ("cleanup.rules.gates", "def f():\n    import time", "rules imports time"),
        ("cleanup.rules.gates", "now = datetime.now(UTC)", "rules asks the clock: now"),
        ("cleanup.rules.gates", "today = date.today()", "rules asks the clock: today"),
        ("cleanup.models", "from cleanup.storage.staging import run_tree", "models imports storage"),
        ("cleanup.models", "import_module('cleanup.clears.protocol')", "models imports clears"),
        ("cleanup.lab.roots.opening", "from cleanup.runs.discovery import discover", "lab imports runs"),
        ("cleanup.runs.discovery", "from cleanup.clears import queue", "runs imports clears"),
        ("cleanup.clears.recovery", "from cleanup.sweeps.all_roots import sweep", "clears imports sweeps"),
        ("cleanup.clears.protocol", "from cleanup.clears.recovery import recover", "imports cleanup.clears.recovery"),
        (
            "cleanup.clears.protocol",
            "from cleanup.clears.nas_history import tell",
            "imports cleanup.clears.nas_history",
        ),
        ("cleanup.runs.discovery", "from cleanup.web.runs.run_list import run_list", "runs imports web"),
        ("cleanup.tasks", "from cleanup.web.runs.run_list import run_list", "tasks imports web"),
        ("cleanup.admin", "from cleanup.tasks import clear", "admin imports tasks"),
        ("exlab.settings", "from cleanup.models import Run", "exlab imports models"),
        ("cleanup.web.runs.run_list", "import ctypes", "ctypes outside linux.py"),
        ("cleanup.clears.protocol", "import os\nos.unlink('x')", "unlink in the module"),
        ("cleanup.clears.protocol", "def f():\n    os.rename('a', 'b')", "rename in f"),
        ("cleanup.clears.protocol", "os.replace('a', 'b')", "replace in the module"),
        ("cleanup.clears.protocol", "path.unlink(missing_ok=True)", "unlink in the module"),
        ("cleanup.clears.protocol", "path.replace(target)", "replace in the module"),
        ("cleanup.clears.protocol", "kernel.rename_noreplace(a, b, c, d)", "rename_noreplace in the module"),
        ("cleanup.storage.staging.plan", "os.rmdir('x')", "rmdir in the module"),
        ("cleanup.storage.nas.record", "def tell():\n    os.unlink('x')", "unlink in tell"),
        ("cleanup.storage.staging.run_tree", "def scan():\n    os.unlink('x')", "unlink in scan"),
        ("cleanup.storage.staging.removal", "def batches():\n    os.unlink('x')", "unlink in batches"),
        ("cleanup.storage.staging.removal", "def _unlink():\n    shutil.rmtree('x')", "rmtree"),
        ("cleanup.web.runs.run_list", "shutil.move('a', 'b')", "move in the module"),
        ("cleanup.clears.protocol", "from os import unlink as away", "unlink imported by its own name"),
        ("cleanup.storage.staging.run_tree", "shutil.rmtree('x')", "rmtree"),
        ("cleanup.storage.staging.run_tree", "os.removedirs('x')", "removedirs"),
        ("cleanup.tasks", "f(ignore_errors=True)", "ignore_errors"),
        ("cleanup.tasks", "subprocess.run('ls', shell=True)", "shell"),
        ("cleanup.tasks", "try:\n    f()\nexcept:\n    pass", "bare except"),
    ],
)
def test_each_rule_bites(module: str, source: str, rule: str) -> None:
    assert [words for words in violations(module, source) if words.endswith(rule)], violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "cleanup.sweeps.all_roots",
            "from cleanup.clears.recovery import recover\nfrom cleanup.storage.staging import run_tree",
        ),
        ("cleanup.web.clears.confirm", "from cleanup.tasks import clear\nfrom cleanup.text.values import ago"),
        (
            "cleanup.clears.protocol",
            "'a'.replace('a', 'b')\nreplace(facts, fresh=True)\nnow.replace(year=1)\nitems.remove(1)",
        ),
        ("cleanup.clears.protocol", "tree.remove(parent, name, fenced, planned, record=record)"),
        ("cleanup.storage.staging.removal", "def _unlink(): os.unlink(name, dir_fd=parent)"),
        ("cleanup.rules.gates", "def evaluate(facts, now): return now > facts.verified_at"),
    ],
)
def test_the_rules_let_good_code_through(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_a_module_without_a_room_is_noticed() -> None:
    with pytest.raises(KeyError, match="stands in no room"):
        room_of("cleanup.helpers")


def test_the_exceptions_still_exist() -> None:
    excepted = {*MAY_REMOVE, *((module, function) for module, functions in REMOVERS.items() for function in functions)}
    defined = {
        (module_of(path), function)
        for path in product_files()
        for function in {"*", *(function for function, _node in _with_function(ast.parse(path.read_text())))}
    }
    assert excepted <= defined


def test_the_document_names_every_room_in_this_order() -> None:
    rows = (CHECKOUT / "docs/design.md").read_text().splitlines()
    named = [row.split("`")[1].strip("/") for row in rows if row.startswith("| `")]
    assert [name for name in named if name in ROOMS] == list(ROOMS)


# Names that Django looks for in every model, form or command.
DJANGOS_NAMES = {"Meta", "Media", "Command", "Migration"}


def test_every_class_has_a_name_of_its_own() -> None:
    names: dict[str, list[str]] = {}
    for path in (CHECKOUT / "cleanup").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                names.setdefault(node.name, []).append(module_of(path))
    twice = {name: modules for name, modules in names.items() if len(modules) > 1}
    assert set(twice) <= DJANGOS_NAMES, twice


MOST_LINES = {ast.Module: 400, ast.ClassDef: 150, ast.FunctionDef: 40}
# Tables: of reasons, and of the runs of the demonstration.
TABLES = {
    ("cleanup/rules/reasons.py", ""),
    ("cleanup/rules/reasons.py", "Reason"),
    ("cleanup/demo/planned.py", "planned_runs"),
}


def test_no_module_class_or_function_is_too_long() -> None:
    long = set()
    for path in (CHECKOUT / "cleanup").rglob("*.py"):
        if "migrations" in path.parts:
            continue
        name, source = str(path.relative_to(CHECKOUT)), path.read_text()
        for node in ast.walk(ast.parse(source)):
            if type(node) in MOST_LINES:
                first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", source.count("\n"))
                if last - first + 1 > MOST_LINES[type(node)]:
                    long.add((name, getattr(node, "name", "")))
    assert long == TABLES
