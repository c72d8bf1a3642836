"""The house's order, held: which folder may import which, and how long a file or function may be.

docs/architecture.md tells the layers to a reader.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from custom_gaze.common.provenance import PACKAGE, imports_of

# From the ground up: a module imports its own folder and layers below it, never one beside it.
LAYERS = (
    ("common",),
    ("geometry",),
    ("config",),
    ("models",),  # networks, and how an ONNX file is opened and tried
    ("faces",),  # its detectors are ONNX files
    ("data", "weights"),
    ("calibration", "rustyeyes"),
    ("evaluation",),
    ("stages", "inference", "remote", "demo"),
    ("capture",),  # its live page takes the predictor from inference
    ("history",),  # takes tracking from evaluation
    ("doctor",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FOR_CLI_ALONE = {"stages", "demo"}

# Whose public functions and fields may be dict[str, Any]: what they read has no fixed shape.
MAY_BE_UNTYPED = {
    "common/saved_tensors.py": "writes and reads the container; who asked for it checks it",
    "common/tensor_files.py": "reads the container; who asked for it checks what is in it",
    "weights/torch_reader.py": "parses checkpoints of any project",
}
MOST_LINES = 350
MOST_LINES_OF_A_FUNCTION = 60
LONG = "# long: "  # on a function's def line: why it is longer

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_module_is_of_a_layer() -> None:
    assert {layer_of(path) for path in FILES} - {"__init__"} == set(RANK)


def test_imports_point_one_way() -> None:
    """Those inside functions count as well."""
    against = set()
    for path in FILES:
        layer = layer_of(path)
        for imported in imports_of(path):
            other = layer_of(imported)
            if other in ("__init__", layer):  # the version, which everything may know
                continue
            if RANK[other] >= RANK[layer] or (other in FOR_CLI_ALONE and layer != "cli"):
                against.add(f"{name_of(path)} -> {other}")
    assert not against


def test_a_file_can_be_known_and_a_function_be_seen_at_once() -> None:
    long = set()
    for path in FILES:
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > MOST_LINES:
            long.add(name_of(path))
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > MOST_LINES_OF_A_FUNCTION and LONG not in lines[node.lineno - 1]:
                    long.add(f"{name_of(path)}: {node.name}")
    assert not long


def public_annotations(tree: ast.Module) -> Iterator[ast.expr]:
    """Those of public functions, of public methods and of public classes' fields."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and ast.unparse(field.target)[0] != "_":
                    yield field.annotation
            yield from annotations_of_functions(node.body)
    yield from annotations_of_functions(tree.body)


def annotations_of_functions(body: list[ast.stmt]) -> Iterator[ast.expr]:
    for node in body:
        # What `as_dict` gives is written as JSON at once.
        if isinstance(node, ast.FunctionDef) and not node.name.startswith(("_", "as_dict")):
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            yield from (a.annotation for a in arguments if a.annotation is not None)
            if node.returns is not None:
                yield node.returns


def test_what_crosses_modules_is_typed() -> None:
    untyped = {
        name_of(path)
        for path in FILES
        for annotation in public_annotations(ast.parse(path.read_text(encoding="utf-8")))
        if any(word in ast.unparse(annotation) for word in ("dict[str, Any]", "Mapping[str, Any]"))
    }
    assert untyped == set(MAY_BE_UNTYPED)


def test_the_architecture_s_answers_are_where_it_says() -> None:
    """Each row of its last table names a file and, in backquotes, what to look for in it."""
    text = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = (line.split(" | ") for line in text.splitlines())
    rows = [cells for cells in lines if len(cells) == 3 and cells[1].endswith(".py`")]
    assert len(rows) == 10
    for _, file, answer in rows:
        source = (PACKAGE / file.strip("`")).read_text(encoding="utf-8")
        named = [word.strip("`") for word in re.findall("`[A-Za-z_.]+`", answer)]
        assert any(f"def {name.split('.')[-1]}(" in source for name in named), file
