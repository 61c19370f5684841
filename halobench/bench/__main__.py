"""The command line: `python -m halobench.bench`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from halobench.bench.clock import positive
from halobench.bench.contestants import BARE, CONTESTANTS
from halobench.bench.report import make_record, record_path, render_table, write_record
from halobench.bench.rounds import compete, num_steps
from halobench.bench.workload import MODELS, Setting
from halobench.errors import HalobenchError

_EXAMPLES = """examples:
  python -m halobench.bench                                          everything: hours
  python -m halobench.bench --models S --precisions fp32 --losses dpo
  python -m halobench.bench --models S --precisions fp32 --contestants halobench halobench-bare --rounds 20
  python -m halobench.bench --models 1.4B --precisions bf16 --device cuda --contestants halobench trl-best"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m halobench.bench",
        description="Measure how fast halobench trains, and TRL, on the same work.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["S", "M", "B"])
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--losses", nargs="+", choices=["dpo", "kto"], default=["dpo", "kto"])
    usual = [name for name in CONTESTANTS if name != BARE]
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=usual)
    parser.add_argument("--rounds", type=positive, default=7, help="measured steps of each contestant")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder; records go to bench/")
    parsed = parser.parse_args(arguments)
    needs_trl = any(name.startswith("trl") for name in parsed.contestants)
    if needs_trl and importlib.util.find_spec("trl") is None:
        parser.error("TRL is not installed: pip install -c constraints.txt -e '.[bench]', or drop trl-*")
    for model, precision, loss in product(parsed.models, parsed.precisions, parsed.losses):
        setting = Setting(model, precision, loss, num_steps(parsed.rounds), parsed.device)
        try:
            outcome = compete(parsed.contestants, setting, lambda line: print(line, file=sys.stderr))
        except HalobenchError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        record = make_record(outcome)
        write_record(parsed.results / "bench", record)
        print(render_table(record), end="\n\n", flush=True)
        print(record_path(parsed.results / "bench", record), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
