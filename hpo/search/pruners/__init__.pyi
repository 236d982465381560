from .base import Curve as Curve
from .base import Peer as Peer
from .base import Pruner as Pruner
from .base import PrunerSection as PrunerSection
from .registry import PRUNERS as PRUNERS
