"""Each module prints a table; the figures in the README come from here.

"The paper" is XavierSpycy/EMNIST-Classifier. Documents call it the published study.
"""
