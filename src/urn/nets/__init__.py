"""The small networks that Urn ships, how they were trained, and how models are saved."""

from urn.nets.data import digits
from urn.nets.denoiser import DigitsDenoiser
from urn.nets.digits_network import load_digits, train_digits
from urn.nets.evaluation import evaluate_digits, score_digits
from urn.nets.saving import load_model, save_model
from urn.nets.skipping import skippable, without
from urn.nets.training import Recipe, TrainingInterrupted, train

__all__ = [
    "DigitsDenoiser",
    "Recipe",
    "TrainingInterrupted",
    "digits",
    "evaluate_digits",
    "load_digits",
    "load_model",
    "save_model",
    "score_digits",
    "skippable",
    "train",
    "train_digits",
    "without",
]
