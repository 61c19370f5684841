"""A plug-in that kills with SIGKILL, once, at the place and in the way that the variable KILL_AT names."""

import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

MARKER = Path(os.environ["KILL_MARKER"])
PLACE, WHOM = os.environ["KILL_AT"].split(":")
IS_WORKER = "halobench.worker" in sys.orig_argv


def kill():
    """Kill the process group, or the parent of the workers alone; whoever is left must end by itself."""
    if MARKER.exists():
        return
    MARKER.touch()
    if WHOM == "group":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getppid() if IS_WORKER else os.getpid(), signal.SIGKILL)
    if PLACE != "rename":  # there the write in progress is finished first
        time.sleep(60)  # longer than the test waits


def before(place, name):
    """Kill when the function is called."""
    module = import_module(place)
    function = getattr(module, name)

    def killed(*arguments, **options):
        kill()
        return function(*arguments, **options)

    setattr(module, name, killed)


def within_training():
    """Kill when the stage PLACE has taken half of its steps."""
    module = import_module("halobench.training.stage")
    train_stage = module.train_stage

    def train(materials, stage, name, start, output, report, **options):
        def watched(phase, done, total):
            report(phase, done, total)
            if phase == PLACE and done >= total / 2:
                kill()

        train_stage(materials, stage, name, start, output, watched, **options)

    module.train_stage = train


if PLACE in ("base", "sft", "align", "reference"):
    if IS_WORKER:
        within_training()
elif PLACE == "scoring":
    before("halobench.run", "_write_scores")
elif PLACE == "rename" and IS_WORKER:
    before("halobench.storage", "_flush")  # the last thing before a temporary file takes its name
elif PLACE == "board" and not IS_WORKER:
    before("halobench.leaderboard.build", "render_markdown")
