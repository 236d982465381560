from .error_analysis import ErrorAnalysis as ErrorAnalysis
from .error_analysis import analyse as analyse
from .folder import write_analysis as write_analysis
from .predictions import Predictions as Predictions
