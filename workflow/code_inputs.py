"""Source files as inputs of the rules that run them: Snakemake does not see imported packages.

What a rule runs is read off the imports of its script, so no rule can forget a module. Syntax
trees are read once: their imports are kept in `.snakemake/code_inputs.json` of the working
directory until a file's size or time of change differs.
"""

from __future__ import annotations

import ast
import atexit
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from snakemake.exceptions import WorkflowError

from hvp_patching.files import WriteError, write_text

ROOT = Path(__file__).resolve().parents[1]
SRC, PACKAGE, SCRIPTS = "src", "hvp_patching", "workflow/scripts"
CACHE = Path(".snakemake") / "code_inputs.json"
FORMAT = 1  # of the cache
# Modules that change no number: another model's entry, message or check reruns nothing.
WITHOUT_NUMBERS = frozenset(
    f"{PACKAGE}.{name}" for name in ("checking", "files", "models.notices", "models.registry")
)
# Modules whose work reaches later rules as files: weights with their identity, prompts. The rules
# that make these files name them (`weights_code`, `prompt_sources`).
BEHIND_FILES = WITHOUT_NUMBERS | {
    f"{PACKAGE}.{name}"
    for name in (
        "models.checkpoint",
        "models.content",
        "models.convert",
        "models.fetch",
        "models.gguf_guard",
        "models.gguf_source",
        "models.identity",
        "models.tiny",
        "prompts.corruptions",
        "prompts.registry",
        "prompts.validation",
    )
}
# Packages whose __init__ lists modules of one kind: a rule names those that it runs. What the list
# itself is made with is private, and belongs to it.
LISTS = frozenset({f"{PACKAGE}.baselines"})


class Import(NamedTuple):
    """`from module import name as alias`; no name for `import module` and a star."""

    module: str
    name: str
    alias: str
    typing_only: bool


def project_file(path: str) -> str:
    """A file of the project as an input: relative in the checkout itself, absolute elsewhere.

    Braces would be wildcards.
    """
    if Path.cwd() == ROOT:
        return path
    return f"{str(ROOT).replace('{', '{{').replace('}', '}}')}/{path}"


@cache
def script_code(script: str, *modules: str) -> list[str]:
    """Library files that a script of workflow/scripts runs: what it imports, directly or not.

    `modules` ('metrics/auroc') are those that it imports by a name it is given.
    """
    files = _imported_files(f"{SCRIPTS}/{script}.py") | {_file(name) for name in modules}
    return _inputs(_closure(files, BEHIND_FILES))


def import_closure(*modules: str) -> list[str]:
    """Files of the named modules ('reporting/table3') and of every library module they import."""
    return _inputs(_closure({_file(name) for name in modules}))


def notebook_closure(notebook: str) -> list[str]:
    """Every library file that a notebook's cells import, directly or not."""
    return _inputs(_closure(_imported_files(notebook), BEHIND_FILES))


def notebook_title(notebook: str) -> str:
    """What a notebook's figure shows: its heading, without the figure's number."""
    cells = json.loads((ROOT / notebook).read_text(encoding="utf-8"))["cells"]
    heading = "".join(cells[0]["source"]).partition("\n")[0]
    return heading.lstrip("# ").partition(": ")[2] or heading.lstrip("# ")


def sources(*modules: str) -> list[str]:
    """The files of the named modules alone ('metrics/*' stands for many)."""
    found: set[str] = set()
    for name in modules:
        matches = {path.relative_to(ROOT).as_posix() for path in _package().glob(f"{name}.py")}
        if not matches:
            raise WorkflowError(f"no module matches {SRC}/{PACKAGE}/{name}.py")
        found |= matches
    return _inputs(found)


def weights_code() -> list[str]:
    """Library files that fetch, check and convert weights (rule prepare_model)."""
    files = _imported_files(f"{SCRIPTS}/prepare_model.py")
    return _inputs(_closure(files, WITHOUT_NUMBERS | {f"{PACKAGE}.models.tiny"}))


def prompt_sources(task: str) -> list[str]:
    """Modules that make the prompts of one task; a new task touches no other task's prompts."""
    from hvp_patching.prompts.registry import get_task

    try:
        get_task(task)
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    texts = ("checks", "forms", "pair", "texts")
    forms = ("answers", "multiple_choice", "numbers")
    shared = ("corruptions", "data_files", *texts, *forms, "seeded", "task", "validation")
    return sources(*(f"prompts/{name}" for name in (*shared, task)))


def _inputs(files: Iterable[str]) -> list[str]:
    return [project_file(file) for file in sorted(files)]


def _file(module: str) -> str:
    path = f"{SRC}/{PACKAGE}/{module}.py"
    if not (ROOT / path).is_file():
        raise WorkflowError(f"no module {path}")
    return path


def _package() -> Path:
    return ROOT / SRC / PACKAGE


def _closure(files: Iterable[str], stops: frozenset[str] = frozenset()) -> set[str]:
    """The files and all that they import, less `stops` and what only they import."""
    found: set[str] = set()
    todo = list(files)
    while todo:
        file = todo.pop()
        if file not in found and not _within(_module(file), stops):
            found.add(file)
            imported = _imported_files(file)
            listing = _module(file) in LISTS
            todo += [one for one in imported if not listing or Path(one).name.startswith("_")]
    return found


def _within(module: str, stops: frozenset[str]) -> bool:
    """Whether a module is one of `stops` or lies in a package that is."""
    return any(f"{module}.".startswith(f"{stop}.") for stop in stops)


@cache
def _imported_files(path: str) -> frozenset[str]:
    """Library files that a module, script or notebook imports while it runs, directly."""
    found = (_home(one.module, one.name) for one in _imports(path) if not one.typing_only)
    return frozenset(filter(None, found))


def _home(module: str, name: str) -> str | None:
    """The file that `from module import name` takes the name from; None outside the library.

    A package passes on what its __init__ takes from elsewhere, at once or (under TYPE_CHECKING,
    for the reader) on first use: then the module behind it is meant.
    """
    files = _files()
    submodule = files.get(f"{module}.{name}")
    here = files.get(module)
    if submodule or not here or not name or not here.endswith("/__init__.py"):
        return submodule or here
    for one in _imports(here):
        if one.alias == name:
            return _home(one.module, one.name) or here
    return here


@cache
def _files() -> dict[str, str]:
    """Every module of the library by its dotted name; a package stands for its __init__."""
    found = _package().rglob("*.py")
    return {_module(path): path for path in (file.relative_to(ROOT).as_posix() for file in found)}


@cache
def _module(path: str) -> str:
    """The dotted name of a library file."""
    parts = Path(path).relative_to(SRC).with_suffix("").parts if path.startswith(SRC) else (path,)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: str) -> list[Import]:
    return MEMORY.imports(path)


class Memory:
    """The imports of every file read so far, kept from one start of Snakemake to the next."""

    def __init__(self) -> None:
        self.entries: dict[str, list] | None = None
        self.fresh: set[str] = set()  # looked at since the start
        self.changed = False

    def imports(self, path: str) -> list[Import]:
        """What a file imports, read anew where its size or time of change differs."""
        if self.entries is None:
            self.entries = self._load()
            atexit.register(self._save)
        if path not in self.fresh:
            status = (ROOT / path).stat()
            stamp = [status.st_size, status.st_mtime_ns]
            if self.entries.get(path, [None])[0] != stamp:
                found = _read_imports(path)
                ours = [one for one in found if one.module.partition(".")[0] == PACKAGE]
                self.entries[path] = [stamp, ours]
                self.changed = True
            self.fresh.add(path)
        return [Import(*one) for one in self.entries[path][1]]

    def _load(self) -> dict[str, list]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(CACHE.read_text(encoding="utf-8"))
            if kept["of"] == [FORMAT, str(ROOT)]:
                return dict(kept["files"])
        return {}

    def _save(self) -> None:
        """Whole or not at all; a folder that cannot be written goes without."""
        if not self.changed:
            return
        with suppress(WriteError):
            write_text(CACHE, json.dumps({"of": [FORMAT, str(ROOT)], "files": self.entries}))


MEMORY = Memory()


def _read_imports(path: str) -> Iterator[Import]:
    text = (ROOT / path).read_text(encoding="utf-8")
    package: list[str] = []
    if path.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    elif path.startswith(SRC):
        package = list(Path(path).relative_to(SRC).parent.parts)
    yield from _walk(ast.parse(text), package, typing_only=False)


def _walk(node: ast.AST, package: list[str], typing_only: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, "", alias.asname or alias.name, typing_only)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*above, *filter(None, [node.module])])
        for alias in node.names:
            name = "" if alias.name == "*" else alias.name
            yield Import(module, name, alias.asname or alias.name, typing_only)
    elif isinstance(node, ast.Call) and _calls_import_module(node):
        yield Import(node.args[0].value, "", "", typing_only)
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for child in node.body:
            yield from _walk(child, package, typing_only=True)
        for child in node.orelse:
            yield from _walk(child, package, typing_only)
        return
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, typing_only)


def _calls_import_module(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    plain = call.args and isinstance(call.args[0], ast.Constant)
    return name == "import_module" and bool(plain) and isinstance(call.args[0].value, str)
