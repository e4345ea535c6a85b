"""Model evaluation against two baselines: the copied source and the driving frame itself."""

from .. import submodules
from ..data.clip_reader import Clip, ClipReader, list_clips
from .expression import TransferScore, summarize_transfer
from .folder import Report, evaluate_to_folder
from .markdown import means_table
from .metric_specs import EXPRESSION, METRICS, Features, MetricSpec, Scorer
from .pairs import BUNDLED, Failure, Pair, PairList, batches, person_of, read_pairs
from .protocols import cross_identity, random_pairs, same_identity
from .report import Score, Summary, summarize
from .run import PREDICTIONS, Evaluator, Prediction, Result, evaluate
from .variants import ABLATIONS

__all__ = [
    "ABLATIONS",
    "BUNDLED",
    "EXPRESSION",
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
    "TransferScore",
    "batches",
    "cross_identity",
    "evaluate",
    "evaluate_to_folder",
    "list_clips",
    "means_table",
    "person_of",
    "random_pairs",
    "read_pairs",
    "same_identity",
    "summarize",
    "summarize_transfer",
]

__getattr__ = submodules(__name__)
