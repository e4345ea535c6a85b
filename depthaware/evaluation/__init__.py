"""How good a model is: pairs of frames in, scores out, beside those of two trivial baselines."""

from .folder import Report, evaluate_to_folder
from .footage import Clip, Footage, list_clips
from .measures import MEASURES, Measure, Scorer, Seen
from .pairs import BUNDLED, Failure, Pair, Plan, cross_identity, read_pairs, same_identity
from .report import Score, Summary, means_table, summarise
from .run import PREDICTIONS, Drawn, Evaluator, Result, batches, evaluate

__all__ = [
    "BUNDLED",
    "MEASURES",
    "PREDICTIONS",
    "Clip",
    "Drawn",
    "Evaluator",
    "Failure",
    "Footage",
    "Measure",
    "Pair",
    "Plan",
    "Report",
    "Result",
    "Score",
    "Scorer",
    "Seen",
    "Summary",
    "batches",
    "cross_identity",
    "evaluate",
    "evaluate_to_folder",
    "list_clips",
    "means_table",
    "read_pairs",
    "same_identity",
    "summarise",
]
