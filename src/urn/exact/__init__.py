"""Models known in closed form: their predictions, densities and posteriors under every process."""

from .affine import Affine, AffineNoise, moments
from .conditional import Conditional
from .contract import ClosedForm
from .elementwise import elementwise_model
from .empirical import Empirical
from .gaussian import Gaussian
from .interpolant import BetweenMixtures
from .joint import joint_model, joint_sample
from .mixture import GaussianMixture, digits_mixture
from .photographs import photographs_mixture
from .reflected import ReflectedEmpirical, reflected_kernel

__all__ = [
    "Affine",
    "AffineNoise",
    "BetweenMixtures",
    "ClosedForm",
    "Conditional",
    "Empirical",
    "Gaussian",
    "GaussianMixture",
    "ReflectedEmpirical",
    "digits_mixture",
    "elementwise_model",
    "joint_model",
    "joint_sample",
    "moments",
    "photographs_mixture",
    "reflected_kernel",
]
