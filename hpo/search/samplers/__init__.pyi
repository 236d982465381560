from .base import Observation as Observation
from .base import Sampler as Sampler
from .points import plan as plan
from .registry import SAMPLERS as SAMPLERS
