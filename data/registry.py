"""Data sets by name. A source is imported when a data set of it is opened, so this module needs no torch."""

from difflib import get_close_matches
from pathlib import Path

from hpo.data.dataset import Dataset, UnknownDataset
from hpo.data.own import open_own
from hpo.user_code import is_reference, near_reference

_MNIST = (
    "emnist-byclass",
    "emnist-bymerge",
    "emnist-balanced",
    "emnist-letters",
    "emnist-digits",
    "emnist-mnist",
    "mnist",
    "fashion-mnist",
)


def names() -> tuple[str, ...]:
    """Return the registered names."""
    return (*_MNIST, "digits")


def check(name: str) -> None:
    """Raise UnknownDataset unless `name` is registered or has the form "package.module:function"."""
    if name in names() or is_reference(name):
        return
    meant = near_reference(name)
    near = [meant] if meant else get_close_matches(name, names())
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UnknownDataset(
        f"no data set {name!r}: {hint}it must be one of {', '.join(names())}, "
        "or your own as package.module:function"
    )


def open_dataset(name: str, root: Path) -> Dataset:
    """Return the data set `name`, whose files are under `root`. Images are read when a part is loaded.

    A user's own function is called at once. Raises DataError for an unknown name, and for a function that
    breaks the rules of `hpo.data.own`.
    """
    check(name)
    if name == "digits":
        from hpo.data.digits import open_digits

        return open_digits()
    if name in _MNIST:
        from hpo.data.mnist import open_mnist

        return open_mnist(name, root)
    return open_own(name)


def signature(name: str, root: Path) -> str | None:
    """Return a digest of the names, sizes and times of the files that the data set `name` is read from.

    An equal signature means an unchanged data set. None: only reading it tells, because a file is missing or
    a user's own function makes the data set.
    """
    if name == "digits":
        from hpo.data.digits import digits_signature

        return digits_signature()
    if name in _MNIST:
        from hpo.data.mnist import mnist_signature

        return mnist_signature(name, root)
    return None


def is_present(name: str, root: Path) -> bool:
    """Return whether the files of a registered data set are under `root`. They are not read."""
    if name == "digits":  # a part of scikit-learn, whose import takes a second
        return True
    from hpo.data.mnist import mnist_signature

    return mnist_signature(name, root) is not None


def fetch(name: str, root: Path) -> None:
    """Download the data set `name` to `root`, from torchvision's mirrors and with its checksums.

    Existing files are kept. `digits` and a user's own data set need no download. Raises DataError if the
    download fails or an existing file is damaged.
    """
    check(name)
    if name in _MNIST:
        from hpo.data.mnist import fetch_mnist

        fetch_mnist(name, root)
