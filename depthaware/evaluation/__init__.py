"""Model evaluation against two baselines: the copied source and the driving frame itself."""

from .. import submodules
from ..data.clip_reader import Clip, ClipReader, list_clips
from .folder import Report, evaluate_to_folder
from .metric_specs import METRICS, Features, MetricSpec, Scorer
from .pairs import BUNDLED, Failure, Pair, PairList, cross_identity, read_pairs, same_identity
from .report import Score, Summary, means_table, summarize
from .run import PREDICTIONS, Evaluator, Prediction, Result, batches, evaluate

__all__ = [
    "BUNDLED",
    "METRICS",
    "PREDICTIONS",
    "Clip",
    "ClipReader",
    "Evaluator",
    "Failure",
    "Features",
    "MetricSpec",
    "Pair",
    "PairList",
    "Prediction",
    "Report",
    "Result",
    "Score",
    "Scorer",
    "Summary",
    "batches",
    "cross_identity",
    "evaluate",
    "evaluate_to_folder",
    "list_clips",
    "means_table",
    "read_pairs",
    "same_identity",
    "summarize",
]

__getattr__ = submodules(__name__)
