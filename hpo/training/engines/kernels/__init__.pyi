from .build import BuildError as BuildError
from .decompositions import DECOMPOSITIONS as DECOMPOSITIONS
from .decompositions import replace_max_pooling as replace_max_pooling
from .operators import load as load
