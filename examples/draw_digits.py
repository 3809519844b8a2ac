"""Draw 64 digits in 8 model calls, and say how far such digits are from real ones: `python examples/draw_digits.py`."""

from pathlib import Path

import torch

import urn
from urn.nets import load_digits, score_digits
from urn.pictures import contact_sheet

out = Path("out")
out.mkdir(exist_ok=True)

model = load_digits()  # a small network, with its process and what it predicts
plan = urn.compile_plan("adams_pc_3", model.process, steps=8)
print(plan, "\n")

labels = torch.arange(64) * 10 // 64  # class after class
x = urn.sample(model, plan, shape=(64, 1, 8, 8), seed=0, conditioning={"label": labels})
contact_sheet(x, columns=16, labels=labels.tolist(), path=out / "digits.png")
(out / "plan.json").write_text(plan.to_json())

labels = torch.arange(2000) % 10
many = urn.sample(model, plan, shape=(2000, 1, 8, 8), seed=1, conditioning={"label": labels}, progress=True)
score = score_digits(many, labels)
print(
    f"\n2,000 digits by this plan, {plan.nfe} model calls each:\n"
    f"  Fréchet distance to held-out digits {score['frechet_to_test']:.3f}; "
    f"of the real training digits {score['frechet_train_to_test']:.3f}\n"
    f"  a classifier trained on real digits sees the class asked for in {score['agreement']:.1%}; "
    f"it gets {score['classifier_accuracy']:.1%} of real ones right\n"
    f"\n64 of them: {out / 'digits.png'}   the plan: {out / 'plan.json'}"
)
