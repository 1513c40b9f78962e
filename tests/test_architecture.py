"""The shape of the project, checked: rooms, sizes, the package list, imports at start-up."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {"pkgmgr": set[str](), "runtime": {"pkgmgr"}, "api": {"pkgmgr", "runtime"}}
FILES = [path for room in MAY_IMPORT for path in sorted((ROOT / room).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60

HEAVY = {
    "cheroot",
    "cryptography",
    "flask",
    "jinja2",
    "llama_cpp",
    "llguidance",
    "numpy",
    "oras",
    "prompt_toolkit",
    "pydantic",
    "requests",
    "rich",
    "tqdm",
    "urllib3",
    "werkzeug",
    "zstandard",
}
# What only one wrapper may import: the package → the places that may.
WRAPPED = {
    "oras": ("pkgmgr/transfer/",),
    "requests": ("pkgmgr/transfer/",),
    "llama_cpp": ("runtime/",),
    "tqdm": ("pkgmgr/cli/output.py",),
    "flask": ("api/",),
    "cheroot": ("api/",),
}
# Modules that decide and do not act: no operating system, no network, no clock, no open().
PURE = (
    "pkgmgr/descriptor.py",
    "pkgmgr/digest.py",
    "pkgmgr/gguf.py",
    "pkgmgr/gguf_bounds.py",
    "pkgmgr/manifest.py",
    "pkgmgr/mediatypes.py",
    "pkgmgr/modelspec.py",
    "pkgmgr/reference.py",
    "pkgmgr/strictjson.py",
    "pkgmgr/transfer/content.py",
    "pkgmgr/transfer/events.py",
    "runtime/request.py",
    "runtime/messages.py",
)
PURE_FOLDERS = ("pkgmgr/dialects",)
IMPURE_IMPORTS = {"os", "socket", "subprocess", "requests", "shutil", "tempfile", "time", "random"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def absolute_imports(path: Path) -> set[str]:
    """Every absolutely imported dotted name of a file, deferred imports included."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downward(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for name in absolute_imports(path):
        first, second, *_ = (*name.split("."), "")
        assert first not in MAY_IMPORT, f"write pannier.{name}: {name} is a second identity"
        assert first != "pannier" or second in MAY_IMPORT[room], f"{room} must not import {name}"


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_tests_name_the_rooms_by_their_full_names(path: Path) -> None:
    for name in absolute_imports(path):
        assert name.split(".")[0] not in MAY_IMPORT, f"write pannier.{name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_modules_and_functions_are_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_MODULE_LINES, f"{lines} lines"
    for function in functions(path):
        assert length(function) <= MAX_FUNCTION_LINES, f"{function.name}: {length(function)} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_wrappers_import_what_they_wrap(path: Path) -> None:
    for name in absolute_imports(path):
        allowed = WRAPPED.get(name.split(".")[0], ("",))
        assert name_of(path).startswith(allowed), f"{name} may be imported in {allowed} only"


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name != "cli"], ids=name_of)
def test_only_commands_and_child_programs_print(path: Path) -> None:
    source = path.read_text()
    if name_of(path).startswith(("api/console/", "api/commands")) or '"__main__"' in source:
        return
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    printing = [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert not printing


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in FILES
        if name_of(path) in PURE or name_of(path.parent).startswith(PURE_FOLDERS)
    ],
    ids=name_of,
)
def test_pure_modules_do_no_io(path: Path) -> None:
    roots = {name.split(".")[0] for name in absolute_imports(path)}
    assert not roots & IMPURE_IMPORTS
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    assert not [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "open"]


def test_the_list_of_pure_modules_is_up_to_date() -> None:
    assert [name for name in PURE if not (ROOT / name).is_file()] == []


def test_the_wheel_lists_every_package() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    inits = [path for path in FILES if path.name == "__init__.py"]
    names = {".".join(("pannier", *path.parent.relative_to(ROOT).parts)) for path in inits}
    assert set(setuptools["packages"]) == names
    assert setuptools["package-dir"] == {f"pannier.{room}": room for room in MAY_IMPORT}


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in FILES}
    assert [name_of(path) for path in folders if not (path / "__init__.py").is_file()] == []


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_the_typing_links_lead_to_the_rooms(room: str) -> None:
    assert (ROOT / ".typing" / "pannier" / room).resolve() == ROOT / room


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"], ["rm", "--help"]])
def test_start_up_loads_no_heavy_package(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pannier.api import main\n"
        f"sys.argv = ['pannier', *{arguments!r}]\n"
        "try:\n    main.main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print('\\n' + ' '.join(sys.modules), file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PANNIER_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split(".")[0] for name in result.stderr.split()}
    assert loaded & HEAVY == set()
