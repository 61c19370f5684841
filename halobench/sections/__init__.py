"""The sections of a recipe: which data, which model, which stages, how much training, which scores."""

from halobench.sections.base import Count, Fraction, NonNegative, Positive, Section, Share
from halobench.sections.data import Binarise, Data, Online, Origin, Part
from halobench.sections.model import Adapter, Architecture, Model, TokenizerFile, Trust
from halobench.sections.scoring import Board, Scoring
from halobench.sections.training import BaseStage, Budget, Execution, Optim, SFTStage, Tuning

__all__ = [
    "Adapter",
    "Architecture",
    "BaseStage",
    "Binarise",
    "Board",
    "Budget",
    "Count",
    "Data",
    "Execution",
    "Fraction",
    "Model",
    "NonNegative",
    "Online",
    "Optim",
    "Origin",
    "Part",
    "Positive",
    "SFTStage",
    "Scoring",
    "Section",
    "Share",
    "TokenizerFile",
    "Trust",
    "Tuning",
]
