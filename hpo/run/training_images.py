"""How many images each stage of a study trains on, as far as this machine knows."""

from collections.abc import Mapping

from hpo.data.arrays import find_mapped
from hpo.errors import HpoError
from hpo.settings import Settings
from hpo.study.study import Study
from hpo.values.stage import Stage


def training_images(study: Study, settings: Settings) -> Mapping[Stage, int]:
    """Return the number of training images of each stage, to within an image per class.

    Empty for a training function, and if the arrays of the data set are not on this machine.
    """
    data, hashes = study.spec.data, study.identity.data
    if study.spec.is_function or hashes is None:
        return {}
    try:
        dataset = find_mapped(data.name, settings.data_path, settings.arrays_path, hashes.content)
        count = 0 if dataset is None else len(dataset.load_train())
    except (HpoError, OSError, ValueError):  # the figure is not worth an error
        return {}
    mini = count * data.mini
    return {"search": round(mini * (1 - data.validation)), "full": round(count - mini)} if count else {}
