import re

import pytest

from hpo import errors
from hpo.errors import HpoError

LINE = re.compile(r"^((?:│   |    )*)(?:[├└]── )?(\w+)\s+(\d)?\s*\S")


def documented() -> dict[str, tuple[str | None, int]]:
    """By name, the class above it and its exit code, as the tree in the docstring has them."""
    assert errors.__doc__ is not None
    tree = errors.__doc__.split("\n\n", 1)[1]
    classes: dict[str, tuple[str | None, int]] = {}
    path: list[str] = []
    for line in tree.strip().splitlines():
        match = LINE.match(line)
        assert match, line
        bars, name, code = match.groups()
        depth = len(bars) // 4 + ("── " in line)
        del path[depth:]
        above = path[-1] if path else None
        classes[name] = (above, int(code) if code else classes[above or name][1])
        path.append(name)
    return classes


def defined() -> dict[str, tuple[str | None, int]]:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, HpoError)]
    return {
        c.__name__: (c.__bases__[0].__name__ if c is not HpoError else None, c.exit_code) for c in classes
    }


def test_docstring_shows_the_class_tree() -> None:
    assert documented() == defined()
    assert len(documented()) >= 7


def test_every_error_is_an_hpo_error() -> None:
    assert HpoError.__bases__ == (Exception,)
    with pytest.raises(HpoError, match=r"^said$"):
        raise errors.SpecError("said")
