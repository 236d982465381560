from .pruners import Peer as Peer
from .pruners import Pruner as Pruner
from .pruners import PrunerSection as PrunerSection
from .samplers import Observation as Observation
from .samplers import Sampler as Sampler
from .stopping import EndedTrial as EndedTrial
from .stopping import StopSection as StopSection
from .stopping import stop_reason as stop_reason
