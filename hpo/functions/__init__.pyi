from .encoding import StateTypeError as StateTypeError
from .encoding import decode as decode
from .encoding import encode as encode
from .trial import Trial as Trial
