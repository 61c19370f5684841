"""One rank of several: trains the jobs of a file, one after the other. Started by test_distributed.py."""

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from halobench.materials import Materials
from halobench.recipe import Recipe
from halobench.training.stage import train_stage


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for job in json.loads(Path(sys.argv[1]).read_text()):

        def report(phase: str, done: int, total: int, job: dict[str, Any] = job) -> None:
            print(job["name"], phase, done, flush=True)
            if phase == "align" and done == job["kill_after"]:
                os._exit(1)  # as the machine would take the process away

        recipe = Recipe.model_validate(job["recipe"])
        train_stage(Materials(recipe), "align", job["name"], Path(job["start"]), Path(job["output"]), report)


if __name__ == "__main__":
    main()
