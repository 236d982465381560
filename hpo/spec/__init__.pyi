from .study_spec import StudySpec as StudySpec
