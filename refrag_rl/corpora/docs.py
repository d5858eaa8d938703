"""The ``docs`` corpus: docstrings of the installed dependencies.

Real text that is on every machine where the package is installed. The sources are read with
``ast``; nothing is imported or executed. One module is one document.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from refrag_rl.corpora.documents import Document
from refrag_rl.errors import UserError

PACKAGES: dict[str, str] = {
    "accelerate": "accelerate",
    "datasets": "datasets",
    "gymnasium": "gymnasium",
    "huggingface_hub": "huggingface_hub",
    "matplotlib": "matplotlib",
    "networkx": "networkx",
    "numpy": "numpy",
    "pandas": "pandas",
    "sb3_contrib": "sb3_contrib",
    "scipy": "scipy",
    "stable_baselines3": "stable_baselines3",
    "sympy": "sympy",
    "torch": "torch",
    "transformers": "transformers",
}
"""Import name to distribution name of the packages whose docstrings are read."""

_MIN_CHARACTERS = 400
_TEST_FOLDERS = {"tests", "test", "testing", "_testing"}
_FORMAT = 1


def load(cache_dir: str | os.PathLike[str] | None = None) -> list[Document]:
    """Read the docstrings of every installed package of ``PACKAGES``.

    Parsing takes about a minute, so the result is kept in a cache folder under a name made from the
    packages' versions.

    Args:
        cache_dir: Folder of the cache. Default: ``$XDG_CACHE_HOME/refrag_rl``, or
            ``~/.cache/refrag_rl``.

    Returns:
        Documents in a fixed order, one a module with at least 400 characters of docstrings.

    Raises:
        UserError: ``cache_dir`` is no path.
        ValueError: None of the packages is installed.
    """
    if not isinstance(cache_dir, str | os.PathLike | None):
        raise UserError(f"corpus.cache_dir={cache_dir!r}: give a folder, or null.")
    versions = _installed_versions()
    if not versions:
        raise ValueError(
            f"corpus docs: none of the packages it reads is installed ({', '.join(PACKAGES)}). "
            "Install the project's dependencies, or give text of your own with corpus=files."
        )
    key = hashlib.sha256(json.dumps([_FORMAT, versions]).encode()).hexdigest()[:16]
    path = _cache_folder(cache_dir) / f"docs-{key}.jsonl"
    documents = _read_cache(path)
    if documents is None:
        documents = [document for package in versions for document in _package_documents(package)]
        _write_cache(path, documents)
    return documents


def _installed_versions() -> dict[str, str]:
    versions = {}
    for package, distribution in PACKAGES.items():
        if importlib.util.find_spec(package) is not None:
            versions[package] = metadata.version(distribution)
    return versions


def _package_documents(package: str) -> Iterator[Document]:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _TEST_FOLDERS.intersection(relative.parts) or path.name.startswith("test_"):
            continue
        module = ".".join([package, *relative.with_suffix("").parts]).removesuffix(".__init__")
        text = docstrings(path.read_text(encoding="utf-8", errors="replace"), module)
        if len(text) >= _MIN_CHARACTERS:
            yield Document(id=f"docs/{module}", domain="docs", text=text)


def docstrings(source: str, module: str) -> str:
    """Return a module's docstrings, each under the name of what it documents.

    Args:
        source: Python source code.
        module: Dotted name of the module, used as the first heading.

    Returns:
        The docstrings in the order of the source, parted by blank lines; ``""`` where there are
        none or the source does not parse.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    return "\n\n".join(_sections(tree, module))


def _sections(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = _docstring(node)
        if docstring:
            yield f"{name}\n{docstring}"
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _sections(child, f"{name}.{child.name}")


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    raw = ast.get_docstring(node, clean=False)
    if not raw:
        return ""
    text = inspect.cleandoc(raw).encode("utf-8", "replace").decode()
    return re.sub(r"[ \t]+\n", "\n", text)


def _cache_folder(cache_dir: str | os.PathLike[str] | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "refrag_rl"


def _read_cache(path: Path) -> list[Document] | None:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [Document(**json.loads(line)) for line in lines if line]
    except (OSError, ValueError, TypeError):
        return None


def _write_cache(path: Path, documents: list[Document]) -> None:
    rows = (
        json.dumps({"id": document.id, "domain": document.domain, "text": document.text})
        for document in documents
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, delete=False
        ) as file:
            try:
                file.write("\n".join(rows))
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        warnings.warn(f"corpus docs: its cache {path} cannot be written ({error})", stacklevel=3)
