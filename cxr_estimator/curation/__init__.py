"""Curation: wrong labels, the same picture twice, the same patient on both sides, and cases that are alike."""

from cxr_estimator.curation._curate import curate
from cxr_estimator.curation._duplicates import duplicates
from cxr_estimator.curation._labels import label_issues
from cxr_estimator.curation._overlap import split_overlap
from cxr_estimator.curation._report import CurationReport
from cxr_estimator.curation._similar import SimilarCases

__all__ = ["CurationReport", "SimilarCases", "curate", "duplicates", "label_issues", "split_overlap"]
