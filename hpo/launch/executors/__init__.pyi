from .base import Executor as Executor
from .base import Listener as Listener
from .base import Standby as Standby
from .base import WorkerCommand as WorkerCommand
from .base import WorkerHandle as WorkerHandle
from .local import LocalExecutor as LocalExecutor
from .local import local_executor as local_executor
from .registry import make_executor as make_executor
