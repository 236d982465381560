from .environment import open_study as open_study
from .fleet import Fleet as Fleet
from .fleet import train_study as train_study
from .run_study import StudyRun as StudyRun
from .worker_process import WorkerOptions as WorkerOptions
from .worker_process import run_worker as run_worker
