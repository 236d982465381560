from .base import Curve as Curve
from .base import Peer as Peer
from .base import Pruner as Pruner
from .registry import PRUNERS as PRUNERS
from .registry import make_pruner as make_pruner
from .section import PrunerSection as PrunerSection
