"""The data sets by name. Importing it needs no torch: each source is imported when it is first asked for."""

from difflib import get_close_matches
from pathlib import Path

from hpo.data.dataset import Dataset, UnknownDataset
from hpo.data.own import REFERENCE, open_own

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
    return (*_MNIST, "digits")


def check(name: str) -> None:
    """Raises UnknownDataset unless `name` is registered or of the form "package.module:function"."""
    if name in names() or REFERENCE.fullmatch(name):
        return
    nearest = get_close_matches(name, names()) or names()
    raise UnknownDataset(
        f"no data set {name!r}: {' or '.join(nearest)}, or your own as package.module:function"
    )


def open_dataset(name: str, root: Path) -> Dataset:
    """The data set `name`, whose files are under `root`. Images are read when its parts are loaded.

    A user's own function is called at once. Raises DataError for an unknown name or a function that does
    not hold to `data.own`.
    """
    check(name)
    if name == "digits":
        from hpo.data.digits import open_digits

        return open_digits()
    if name in _MNIST:
        from hpo.data.mnist import open_mnist

        return open_mnist(name, root)
    return open_own(name)


def fetch(name: str, root: Path) -> None:
    """Download the data set `name` to `root`, with torchvision's mirrors and checksums; what is there stays.

    Nothing to do for digits and for a user's own. Raises DataError when the download fails or a file that
    is there is damaged.
    """
    check(name)
    if name in _MNIST:
        from hpo.data.mnist import fetch_mnist

        fetch_mnist(name, root)
