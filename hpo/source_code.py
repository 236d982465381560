"""The hash of the source of a user's module."""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


def source_hash(module: str) -> str | None:
    """Return a digest of the source of an imported module and of the modules it imports from the same folder.

    The folder is the one that holds the module, or its outermost package. In a folder of installed packages
    only the modules of that package count. Import statements are followed, also those inside functions. None:
    a module without a file.
    """
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return None
    folder = _SourceFolder.of(module, Path(file))
    digest = hashlib.sha256()
    for path, source in sorted(folder.sources(module).items()):
        digest.update(f"{path}\0{len(source)}\0".encode() + source)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _SourceFolder:
    """The folder `root` that modules are looked up in. `package`: the only top-level name, None for any."""

    root: Path
    package: str | None

    @classmethod
    def of(cls, module: str, file: Path) -> "_SourceFolder":
        parents = file.parents
        root = parents[len(module.split(".")) - (file.name != "__init__.py")]
        installed = root.resolve() in {Path(path).resolve() for path in sysconfig.get_paths().values()}
        return cls(root, module.partition(".")[0] if installed else None)

    def sources(self, module: str) -> dict[str, bytes]:
        """Return the source of a module and of those that it imports, by their paths in the folder."""
        sources: dict[str, bytes] = {}
        names = [module]
        while names:
            name = names.pop()
            path = self._path(name)
            key = "" if path is None else path.relative_to(self.root).as_posix()
            if path is None or key in sources:
                continue
            sources[key] = path.read_bytes().replace(b"\r\n", b"\n")
            names += _imports(sources[key], name, is_package=path.name == "__init__.py")
        return sources

    def _path(self, module: str) -> Path | None:
        top = module.partition(".")[0]
        # hpo may lie in the same folder, as in a checkout, and has a version of its own.
        if top == "hpo" or self.package not in (None, top):
            return None
        path = self.root.joinpath(*module.split("."))
        candidates = (path / "__init__.py", path.with_name(f"{path.name}.py"))
        return next((candidate for candidate in candidates if candidate.is_file()), None)


def _imports(source: bytes, module: str, is_package: bool) -> Iterator[str]:
    """Yield the names of the modules that importing `module` imports, and names that may be modules."""
    parts = module.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts)))
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return  # nothing imports it, or the import had failed
    package = parts if is_package else parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)
            if base:
                yield ".".join(base)
