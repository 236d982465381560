from .blocks import Report as Report
from .comparison import compare_studies as compare_studies
from .page import render as render
from .report import make_report as make_report
from .study_data import StudyData as StudyData
from .study_data import read_study as read_study
