from .base import Observation as Observation
from .base import Sampler as Sampler
from .base import make_sampler as make_sampler
from .points import plan as plan
from .registry import SAMPLERS as SAMPLERS
from .section import SamplerSection as SamplerSection
