"""Samples from a JAX function, compiled as a whole, beside the same plan in torch: `python examples/jax_model.py`.

The function has Flax's shape, apply(params, x, t). Its parameters are a mixture's, so that what it should return is known.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import torch

import urn

process = urn.Flow()
target = urn.exact.GaussianMixture([0.6, 0.4], [[1.0, -0.3], [-0.8, 0.5]], [[0.05, 0.1], [0.08, 0.03]])
params = {"weights": target.weights, "means": target.means, "variances": target.covariances.diagonal(dim1=1, dim2=2)}
params = {name: jnp.asarray(value.numpy(), jnp.float32) for name, value in params.items()}


def apply(params, x, t):
    """The exact velocity of x = (1 - t) x0 + t epsilon."""
    alpha, sigma, x = 1 - t[:, None, None], t[:, None, None], x[:, None]
    total = alpha**2 * params["variances"] + sigma**2
    white = (x - alpha * params["means"]) / total
    log_share = jnp.log(params["weights"]) - 0.5 * ((x - alpha * params["means"]) * white + jnp.log(total)).sum(2)
    share = jax.nn.softmax(log_share, axis=1)[..., None]
    return (share * (sigma * white - params["means"] - alpha * params["variances"] * white)).sum(1)


def model_of(params):
    return urn.Model(lambda x, t: apply(params, x, t), process, predicts="velocity", shape=(2,))


plan = urn.compile_plan("unipc_3", process, steps=12)
by_torch = urn.sample(target.model(process, "velocity"), plan, shape=(4096, 2), seed=0)
by_jax = urn.sample(model_of(params), plan, shape=(4096, 2), seed=0, dtype=jnp.float32)
run = jax.jit(lambda params, start: urn.execute(plan, model_of(params), {"x": start})["x"])
start = urn.noise.SeededNoise(urn.sample_seeds(0, 4096)).normal((1.0, 1.0), 0, by_jax)

run(params, start).block_until_ready()
began = time.perf_counter()
compiled = run(params, start).block_until_ready()
seconds = time.perf_counter() - began
for name, x in (("urn.sample on JAX arrays", by_jax), ("compiled", compiled)):
    print(f"{name:26} {np.abs(np.asarray(x) - by_torch.numpy()).max():.1e} from torch's samples, at most")
print(f"4,096 samples in {plan.nfe} model calls, compiled: {seconds * 1000:.1f} ms")
error = urn.check_prediction(model_of(params), jnp.asarray(target.sample(256, seed=1, dtype=torch.float32).numpy()))
print("the network is what its model says it is" if error is None else error)
