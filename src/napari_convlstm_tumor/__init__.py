"""Tumor segmentation, growth and forecast over the visits of a patient."""

__version__ = "0.1.0"
RESEARCH_USE = "Research use only. Not for diagnosis or treatment decisions."
