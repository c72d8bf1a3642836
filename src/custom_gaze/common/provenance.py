"""Which code made a file.

The code of a module is its own file and all of this package that it imports, at the top of a file
or inside functions, and what that imports in turn. Left out is what cannot decide a result: the
exceptions, what is said on the terminal, and the names of paths. DVC's stages depend on the same
files (`make deps`), so a file says another version of itself exactly where its stage would run
again.
"""

import ast
import hashlib
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

from custom_gaze import __version__

NAME = "custom_gaze"
PACKAGE = Path(__file__).parents[1]
DECIDES_NOTHING = ("common/errors.py", "common/console.py", "config/paths.py")


@cache
def code_version(module: str, package: Path = PACKAGE) -> str:
    """The package's version and a hash of a module's code, e.g. '0.1.0+3f2a9c01b7de'.

    Of the sources and not of the git commit: the same code gives the same file, whatever else was
    committed meanwhile, and code that is not committed yet is told apart.

    Args:
        module: its name in this package, e.g. 'train' or 'pretrain.run'.
        package: the package's folder.
    """
    digest = hashlib.sha256()
    for path in code_of(module, package):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


def code_of(module: str, package: Path = PACKAGE) -> list[Path]:
    """The files of a module's code, sorted; of the __init__.py those that run something."""
    waiting = list(module_file(f"{NAME}.{module}", package))
    left_out = {package / name for name in DECIDES_NOTHING}
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in seen | left_out:
            seen.add(path)
            waiting.extend(imports_of(path, package))
    return sorted(path for path in seen if path.name != "__init__.py" or _runs_something(path))


def imports_of(path: Path, package: Path = PACKAGE) -> set[Path]:
    """The package's files that one file imports, their packages' __init__.py among them."""
    modules: set[str] = set()
    here = ".".join((NAME, *path.parent.relative_to(package).parts))
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), here)
            modules |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    modules = {name for name in modules if name.split(".")[0] == NAME}
    parents = {name.rsplit(".", n)[0] for name in modules for n in range(1, name.count(".") + 1)}
    return {file for name in modules | parents for file in module_file(name, package)}


def module_file(module: str, package: Path = PACKAGE) -> set[Path]:
    """The file of a module by its dotted name, foo.py or foo/__init__.py; else nothing."""
    path = package.joinpath(*module.split(".")[1:])
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return {found} if found.exists() else set()


def _runs_something(path: Path) -> bool:
    """Whether there is more than a docstring in a file."""
    return any(not isinstance(node, ast.Expr) for node in _parsed(path).body)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
