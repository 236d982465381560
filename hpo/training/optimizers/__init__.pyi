from .adam import Adam as Adam
from .base import Optimizer as Optimizer
from .clipping import clip as clip
from .registry import OPTIMIZERS as OPTIMIZERS
from .registry import create_optimizer as create_optimizer
from .sgd import Sgd as Sgd
