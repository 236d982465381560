"""A second call of a user's data function, in a process of its own: it must return the same data again."""

import threading
from concurrent.futures import Future

from hpo.data.arrays import ArrayStore
from hpo.data.dataset import DataHashes, Dataset, OwnDataError
from hpo.data.registry import names
from hpo.run.child import run_in_child
from hpo.settings import Settings


class SecondCall:
    """Calls the function behind a data set again, while this process goes on.

    In the same process, a function whose random numbers are seeded when its module is imported would return
    other data than in the next process. Each content is tried once on a machine. Nothing is called for a
    registered data set.
    """

    def __init__(self, dataset: Dataset, settings: Settings) -> None:
        self._name, self._first = dataset.name, None if dataset.facts is None else dataset.facts.hashes
        self._store = store = ArrayStore(settings.arrays_path)
        self._again: Future[DataHashes] | None = None
        if self._first is None or self._name in names() or store.is_repeatable(self._name, self._first):
            return
        self._again = Future()
        # A daemon: if the check of the network fails meanwhile, nobody waits for this call.
        threading.Thread(target=self._call, args=(settings, self._again), daemon=True).start()

    def check(self) -> None:
        """Wait for the call. Raise OwnDataError, and delete the arrays, if it returned other data."""
        if self._first is None or self._again is None:
            return
        again = self._again.result()
        if again == self._first:
            self._store.note_repeatable(self._name, again)
            return
        self._store.delete(self._first.content)
        raise OwnDataError(
            f"{self._name}: returned other {_difference(self._first, again)} when it was called again; "
            "seed its random numbers, and sort the files that it lists"
        )

    def _call(self, settings: Settings, again: "Future[DataHashes]") -> None:
        try:
            again.set_result(DataHashes(**run_in_child("hash", settings, name=self._name)))
        except Exception as error:
            again.set_exception(error)


def _difference(first: DataHashes, again: DataHashes) -> str:
    if first.train != again.train:
        return "training images or labels"
    return "test images or labels" if first.test != again.test else "classes"
