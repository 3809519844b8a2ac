"""One network, declared in its own convention and in wrong ones: `python examples/other_conventions.py`.

The network is a mixture fitted to scikit-learn's digits, called as facebookresearch/flow_matching calls its networks: t runs
from 0, noise, to 1, data, and the velocity is data - noise.
"""

import warnings

import torch

import urn
from urn.adapters import conventions

target = urn.exact.digits_mixture()
exact = target.model(urn.Flow(), "velocity")


class Network(torch.nn.Module):
    def forward(self, x, t, **extras):
        return -exact.net(x, 1 - t)


declared = {
    'flow_matching(net, "cond_ot")': conventions.flow_matching(Network()),
    'flow_matching(net, "cosine")': conventions.flow_matching(Network(), "cosine"),
    'flow_matching(net, predicts="x0")': conventions.flow_matching(Network(), predicts="x0"),
    "rectified_flow(net)": conventions.rectified_flow(Network()),
    "flux(net)": conventions.flux(Network()),
    "sd3(net)": conventions.sd3(Network()),
    "score_sde(net)": conventions.score_sde(Network()),
}
data = target.sample(256, seed=0, dtype=torch.float32)
warnings.simplefilter("ignore")  # what is said is printed below
right = urn.sample(declared['flow_matching(net, "cond_ot")'], "unipc_3", (64, 1, 8, 8), steps=12, seed=0)
for name, model in declared.items():
    said = urn.check_prediction(model, data)
    x = urn.sample(model, "unipc_3", (64, 1, 8, 8), steps=12, seed=0)
    print(f"{name:36} samples are off by {float((x - right).square().mean().sqrt()):.2g}")
    print(f"    {said or 'nothing to say against it'}")
