from .error_analysis import ErrorAnalysis as ErrorAnalysis
from .error_analysis import analyse as analyse
from .folder import Analysed as Analysed
from .folder import AnalysisFiles as AnalysisFiles
from .folder import analysis_files as analysis_files
from .predictions import Predictions as Predictions
