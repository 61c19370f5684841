"""One contestant in a process of its own, on one thread: `python -m halobench.bench.worker NAME SETTING`."""

from __future__ import annotations

import json
import os
import sys

import torch

from halobench.bench.clock import Turnstile
from halobench.bench.contestants import CONTESTANTS
from halobench.bench.workload import Setting


def main() -> None:
    """Train as told, a step per line of the standard input, and report on the standard output."""
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like a report
    torch.set_num_threads(1)
    name, setting = sys.argv[1], Setting(**json.loads(sys.argv[2]))
    CONTESTANTS[name](setting, Turnstile(sys.stdin, reports, setting.device))


if __name__ == "__main__":
    main()
