"""Errors of the exported model: what is confused with what, and how far its probabilities can be trusted."""

from base64 import b64encode

from hpo.report.analysis import PICTURES
from hpo.report.blocks import Block, Code, Picture, Section, Text
from hpo.report.study_data import StudyData


def errors(data: StudyData) -> Section | None:
    """Return the analysis in the study's bundle, None if there is none."""
    analysis = data.analysis
    if analysis is None:
        return None
    lines = analysis.words.splitlines()
    first = next((line for line in lines if line and not line.startswith("#")), "")
    blocks: list[Block] = [Text([first])] if first else []
    blocks += [
        Picture(caption, f"data:image/png;base64,{b64encode(analysis.pictures[name]).decode()}")
        for name, caption in PICTURES.items()
        if name in analysis.pictures
    ]
    blocks.append(Code(f"The whole analysis, from {analysis.directory}:", lines, folded=True))
    return Section("errors", "Errors of the exported model", blocks)
