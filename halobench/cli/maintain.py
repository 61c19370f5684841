"""The verbs that write and remove files of the user's: new, export, clean."""

from __future__ import annotations

import argparse
import keyword
import shutil
from pathlib import Path

from halobench.errors import RecipeError
from halobench.registry import LOSSES
from halobench.storage import home, write_text

_LOSS = '''"""{title}: say in one line what it does."""

from torch.nn.functional import logsigmoid

from halobench import Loss, LossOutput, Pairs, Positive, register_loss


@register_loss("{name}", source="where it is described")
class {title}(Loss):
    """Say what it is.

    L = -log sigmoid(beta * (r_w - r_l)), r = log pi_theta(y | x) - log pi_ref(y | x)

    Attributes:
        beta: inverse temperature of the implied reward.
    """

    beta: Positive = 0.1

    def __call__(self, batch: Pairs) -> LossOutput:
        """Return (B,) losses. Pairs may be Binary, Conditional or Demonstrations instead."""
        margin = self.beta * (batch.chosen.log_ratio - batch.rejected.log_ratio)  # (B,)
        return LossOutput(losses=-logsigmoid(margin))
'''
_TEST = '''"""What {name} must do; run with pytest."""

import math

import torch
from {name} import {title}

from halobench import Logps, Pairs


def logps(policy, reference):
    counts = torch.tensor([3] * len(policy))
    policy, reference = (torch.tensor(values, dtype=torch.float64) for values in (policy, reference))
    return Logps.from_sequence(policy=policy, reference=reference, num_tokens=counts)


def test_it_is_ln_2_when_the_policy_is_the_reference():
    same = logps([-5.0, -7.0], [-5.0, -7.0])
    losses = {title}()(Pairs(chosen=same, rejected=same)).losses
    assert torch.allclose(losses, torch.full((2,), math.log(2), dtype=torch.float64))


def test_it_falls_when_the_chosen_completion_gains():
    start = logps([-5.0], [-5.0])
    gained = logps([-4.0], [-5.0])
    before = {title}()(Pairs(chosen=start, rejected=start)).losses
    after = {title}()(Pairs(chosen=gained, rejected=start)).losses
    assert after < before
'''


def new(arguments: argparse.Namespace) -> int:
    """Write a loss and its test into the current folder."""
    name = arguments.name
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise RecipeError(f"{name!r}: give a lower-case Python name, for example hinge_kto")
    if name in LOSSES:
        raise RecipeError(f"loss {name!r} exists already ({LOSSES.origin(name)}); choose another name")
    title = "".join(part.capitalize() for part in name.split("_"))
    files = {Path(f"{name}.py"): _LOSS, Path(f"test_{name}.py"): _TEST}
    present = [str(path) for path in files if path.exists()]
    if present:
        raise RecipeError(*(f"{path}: is there already; nothing was written" for path in present))
    for path, template in files.items():
        write_text(path, template.format(name=name, title=title))
        print(f"wrote {path}")
    print(f"try it: halobench run quickstart seed=0 --plugin {name}.py loss.name={name} --results try-{name}")
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write the policy of a run as a folder for others."""
    from halobench import api

    api.export(arguments.run_id, arguments.folder, adapter=arguments.adapter, results=arguments.results)
    size = sum(file.stat().st_size for file in arguments.folder.rglob("*") if file.is_file())
    print(f"wrote {arguments.folder} ({size / 1e6:.1f} MB); its README.md says how it was made")
    return 0


def clean(arguments: argparse.Namespace) -> int:
    """Remove the artifacts; records of runs stay."""
    root = home()
    total = 0
    for folder in sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else []:
        if any(folder.rglob("run.json")):
            print(f"{'kept':>10}  {folder} (results)")
            continue
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        total += size
        print(f"{size / 1e6:8.1f}MB  {folder}")
        if not arguments.dry_run:
            shutil.rmtree(folder)
    print(f"{total / 1e6:8.1f}MB  {'would be' if arguments.dry_run else 'was'} removed")
    return 0
