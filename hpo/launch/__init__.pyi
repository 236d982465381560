from .devices import slots as slots
from .launcher import Launcher as Launcher
from .process import ProcessSpec as ProcessSpec
from .process import WorkerProcess as WorkerProcess
from .restarts import Restarts as Restarts
from .slot import Slot as Slot
from .standby import Assignment as Assignment
from .timing import Timing as Timing
