"""The arrays of data sets on one machine: written once, and mapped by every process.

A folder of arrays is named by the hash of its content, so it never changes and may be deleted at any time:
a process that maps it keeps its pages, and the next one writes it again.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock

from hpo.data.dataset import ArrayFacts, DataError, DataHashes, Dataset, Labelled
from hpo.data.registry import check, open_dataset, signature
from hpo.data.statistics import statistics
from hpo.errors import one_line
from hpo.ownership import give_folder, make_file, make_folder, open_new

META, INDEX = "meta.json", "index"
HASH = re.compile(r"[0-9a-f]{64}")


def open_mapped(name: str, data_path: Path, arrays_path: Path, content: str | None = None) -> Dataset:
    """Return the data set `name`, mapped from `arrays_path` and written there first if it is missing.

    `content` is the hash of the arrays to map. Without it a registered data set is looked up by its files
    under `data_path`, and a user's own function is called. Any number of processes may call this at once.
    If `content` is not on this machine, the data set is read or made, and its hash may be another one.
    Raises DataError as `open_dataset` and `ArrayStore.write` do.
    """
    check(name)
    store = ArrayStore(arrays_path)
    dataset = find_mapped(name, data_path, arrays_path, content)
    if dataset is not None:
        return dataset
    with store.lock(name):
        dataset = find_mapped(name, data_path, arrays_path, content)  # another process may have written it
        if dataset is not None:
            return dataset
        before = signature(name, data_path)
        written = store.write(open_dataset(name, data_path))
        if before is not None and signature(name, data_path) == before:
            store.index(before, written)
    dataset = store.find(name, written)
    if dataset is None:
        raise DataError(f"{store.root / written}: was deleted while it was being written")
    return dataset


def find_mapped(name: str, data_path: Path, arrays_path: Path, content: str | None = None) -> Dataset | None:
    """Return the data set if its arrays are on this machine, otherwise None.

    Reads no source file of the data set and calls no user's function.
    """
    store = ArrayStore(arrays_path)
    if content is None:
        files = signature(name, data_path)
        content = None if files is None else store.indexed(files)
    return None if content is None else store.find(name, content)


def hashes_of(dataset: Dataset) -> DataHashes:
    """Return the hashes of a data set, which is read or made anew."""
    return _hashes(_parts(dataset), dataset.classes)


@dataclass(frozen=True, slots=True)
class ArrayStore:
    """Folders of arrays under `root`, by the hash of their content.

    The folder `index` has a file for each signature of a data set's own files, with the hash of its arrays.
    """

    root: Path

    def find(self, name: str, content: str) -> Dataset | None:
        """Return the data set with these arrays under the name `name`, None if they are not here.

        Arrays that another version of hpo wrote in another form are not here. Raises DataError if `content`
        is no hash.
        """
        if not HASH.fullmatch(content):
            raise DataError(f"{name}: {content!r} is not the hash of a data set")
        folder = self.root / content
        try:
            meta = json.loads((folder / META).read_bytes())
            hashes = DataHashes(**meta["hashes"])
            facts = ArrayFacts(hashes, tuple(meta["mean"]), tuple(meta["std"]))
            classes = None if meta["classes"] is None else tuple(meta["classes"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Dataset(name, classes, partial(_map, folder, "train"), partial(_map, folder, "test"), facts)

    def indexed(self, files: str) -> str | None:
        """Return the hash of the arrays for files of the signature `files`, None if unknown."""
        try:
            content = (self.root / INDEX / files).read_text()
        except (OSError, ValueError):
            return None
        return content if HASH.fullmatch(content) else None

    def index(self, files: str, content: str) -> None:
        """Note that files of the signature `files` are written to the arrays `content`."""
        with self._writing():
            path = self.root / INDEX / files
            make_folder(path.parent)
            part = path.with_name(f".{files}")
            _write_file(part, lambda file: file.write(content.encode()))
            part.replace(path)

    def is_repeatable(self, name: str, hashes: DataHashes) -> bool:
        """Return whether the function `name` has returned these data twice."""
        return self.indexed(_key(name + hashes.content)) == hashes.content

    def note_repeatable(self, name: str, hashes: DataHashes) -> None:
        """Note that the function `name` has returned these data twice."""
        self.index(_key(name + hashes.content), hashes.content)

    def delete(self, content: str) -> None:
        """Delete arrays that nothing will ask for."""
        shutil.rmtree(self.root / content, ignore_errors=True)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Wait until no other process writes the data set `name`, and keep others from it meanwhile."""
        with self._writing():
            make_folder(self.root, 0o700)
            file = self.root / f".{_key(name)}.lock"
            make_file(file)
            lock = FileLock(file)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def write(self, dataset: Dataset) -> str:
        """Write the arrays of a data set, unless they are here. Return the hash of their content.

        The caller holds the lock of the name. Raises DataError if the data set breaks a rule, or the arrays
        cannot be written.
        """
        parts = _parts(dataset)
        hashes = _hashes(parts, dataset.classes)
        if self.find(dataset.name, hashes.content) is not None:
            return hashes.content
        moments = statistics(parts["train"], dataset.classes)
        facts = ArrayFacts(hashes, moments.mean, moments.std)
        meta = {"name": dataset.name, "classes": dataset.classes, **asdict(facts)}
        with self._writing():
            self._write_folder(_key(dataset.name), parts, meta)
        return hashes.content

    def _write_folder(self, key: str, parts: Mapping[str, Labelled], meta: Mapping[str, Any]) -> None:
        for abandoned in self.root.glob(f".{key}-*"):  # of a writer that was killed: this one has the lock
            shutil.rmtree(abandoned, ignore_errors=True)
        with TemporaryDirectory(prefix=f".{key}-", dir=self.root, ignore_cleanup_errors=True) as beside:
            give_folder(Path(beside))
            new = Path(beside, "new")
            make_folder(new)
            for part, labelled in parts.items():
                _write_file(new / f"{part}_images.npy", partial(np.save, arr=labelled.images))
                _write_file(new / f"{part}_labels.npy", partial(np.save, arr=labelled.labels))
            text = json.dumps(meta, indent=2, ensure_ascii=False)
            _write_file(new / META, lambda file: file.write(text.encode()))
            self._rename(new, meta["hashes"]["content"])

    def _rename(self, new: Path, content: str) -> None:
        try:
            new.rename(self.root / content)
        except OSError:
            if self.find("", content) is not None:
                return  # a data set of another name and the same content was faster
            shutil.rmtree(self.root / content)  # of another version, or somebody deleted a part of it
            new.rename(self.root / content)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.root}: cannot write arrays there: {error.strerror}; "
                "make room, or set HPO_HOME to another folder"
            ) from error


def _parts(dataset: Dataset) -> dict[str, Labelled]:
    return {"train": dataset.load_train(), "test": dataset.load_test()}


def _hashes(parts: Mapping[str, Labelled], classes: Sequence[str] | None) -> DataHashes:
    hashes = {part: labelled.sha256() for part, labelled in parts.items()}
    content = hashlib.sha256(json.dumps([hashes, classes]).encode()).hexdigest()
    return DataHashes(content, **hashes)


def _map(folder: Path, part: str) -> Labelled:
    """Map the arrays of a part copy-on-write: torch warns of arrays that cannot be written to."""
    try:
        images, labels = (
            np.load(folder / f"{part}_{kind}.npy", mmap_mode="c") for kind in ("images", "labels")
        )
        return Labelled(images, labels)
    except (OSError, ValueError, DataError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(f"{folder}: is damaged ({one_line(error)}); delete it, and it is written again")


def _write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    with open_new(path) as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())  # the rename must not survive a power cut that the content does not


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]
