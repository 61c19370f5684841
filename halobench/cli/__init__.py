"""The command line: one function per verb; user errors are one line per problem and exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from halobench.api import DEFAULT_RESULTS
from halobench.cli import data, inspect, maintain, plan, plot, power, results, runs, tune
from halobench.cli.examples import EXAMPLES
from halobench.errors import HalobenchError
from halobench.results.import_readers import SOURCES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 all well, 1 something failed, 2 usage or recipe error."""
    parser = make_parser()
    parsed, rest = parser.parse_known_args(arguments)
    # argparse takes positional arguments in one run only; overrides may also follow an option
    if rest and not ("overrides" in parsed and all("=" in part and part[0] != "-" for part in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        parsed.overrides += rest
    try:
        code: int = parsed.handler(parsed)
    except HalobenchError as error:
        if parsed.debug:
            raise
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        sys.stderr.close()
        return 0
    return code


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of every verb."""
    parser = argparse.ArgumentParser(
        prog="halobench",
        description="Which alignment loss makes the better model, by how much, and how sure are we?",
        epilog=EXAMPLES["halobench"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    run = _verb(verbs, "run", runs.run, "run what is missing of a recipe, then rebuild its board")
    _add_running(run)

    tunes = _verb(
        verbs,
        "tune",
        tune.tune,
        "search hyper-parameters with equal effort for every loss, on dev prompts",
    )
    _add_running(tunes)
    tunes.add_argument(
        "--write", type=Path, metavar="FOLDER", help="write what was chosen there, a file for each loss"
    )

    plans = _verb(
        verbs, "plan", plan.plan, "validate and expand a recipe, say what it takes; fetch and run nothing"
    )
    _add_recipe(plans)
    plans.add_argument(
        "--device", metavar="NAME", help="say whether it fits and how many GPU-hours: a100-80gb, h200, ..."
    )
    plans.add_argument(
        "--mfu", type=float, default=0.4, metavar="SHARE", help="of its peak, for GPU-hours; by default 0.4"
    )
    plans.add_argument("--json", action="store_true", help="for programs")
    _add_results(plans)

    look = _verb(
        verbs, "data", data.data, "report on a recipe's data: counts, drops, lengths, views, leakage"
    )
    _add_recipe(look)
    look.add_argument("--json", action="store_true", help="for programs")

    board = _verb(verbs, "leaderboard", runs.leaderboard, "rebuild the leaderboard from the results alone")
    board.add_argument("--check", action="store_true", help="write nothing; exit 1 if the files are stale")
    _add_results(board)

    powers = _verb(
        verbs,
        "power",
        power.power,
        "say what differences so many seeds and prompts can find",
    )
    powers.add_argument("suite", nargs="?", help="or a setting of the board; by default every board")
    powers.add_argument(
        "--seeds", nargs="+", type=power.at_least_two, default=power.SEEDS, metavar="S", help="to plan with"
    )
    powers.add_argument(
        "--prompts", nargs="+", type=power.at_least_two, default=power.PROMPTS, metavar="P", help="likewise"
    )
    powers.add_argument(
        "--difference",
        type=power.not_negative,
        metavar="D",
        help="to find; by default the board's margin, or 0.02",
    )
    powers.add_argument(
        "--sd",
        nargs=3,
        type=power.not_negative,
        metavar=("SEEDS", "PROMPTS", "REST"),
        help="of a paired difference, instead of those of the results",
    )
    powers.add_argument("--json", action="store_true", help="for programs")
    _add_results(powers)
    draw = _verb(
        verbs, "plot", plot.plot, "draw one figure of a board, a suite, a search, or of published numbers"
    )
    draw.add_argument("name", nargs="?", help="of the figure")
    draw.add_argument("--list", action="store_true", help="name the figures and draw nothing")
    draw.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE,...",
        help="only rows with one of the values in that column; may be given several times",
    )
    draw.add_argument(
        "--out", type=Path, metavar="FILE", help=".svg, .png or .pdf; by default the name with .svg"
    )
    _add_results(draw, "--from")

    lists = _verb(verbs, "list", inspect.list_names, "list what there is")
    lists.add_argument(
        "what", choices=["losses", "datasets", "scorers", "judges", "recipes", "runs", "imports"]
    )
    lists.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a Python file to import"
    )
    lists.add_argument("--json", action="store_true", help="for programs")
    _add_results(lists)

    show = _verb(verbs, "show", inspect.show, "show a loss, a data source, a recipe, a run or an import")
    show.add_argument("name", help="of any of them")
    show.add_argument("--plugin", action="append", default=[], metavar="FILE", help="a Python file to import")
    show.add_argument("--json", action="store_true", help="for programs")
    show.add_argument("--page", type=Path, metavar="FILE", help="write the page of a run instead")
    _add_results(show)

    sample = _verb(
        verbs, "sample", inspect.sample, "ask a run's policy and the model it started from the same prompt"
    )
    sample.add_argument("run_id", help="of an aligned run, see `halobench list runs`")
    sample.add_argument("prompt", help="what the user says")
    sample.add_argument(
        "--temperature", type=float, default=1.0, metavar="T", help="by default 1; 0 is greedy"
    )
    sample.add_argument("--seed", type=int, default=0, help="of the noise; both models get the same")
    _add_results(sample)

    export = _verb(
        verbs, "export", maintain.export, "write a run's policy as a Hugging Face folder with a card"
    )
    export.add_argument("run_id", help="of an aligned run, see `halobench list runs`")
    export.add_argument("folder", type=Path, help="a new one")
    export.add_argument("--adapter", action="store_true", help="only the adapter, in peft's format")
    _add_results(export)

    _add_store_verbs(verbs.add_parser("results", help="check, compare, join and read results folders"))

    new = _verb(verbs, "new", maintain.new, "write the one file that an extension needs, and its test")
    new.add_argument("what", choices=["loss"])
    new.add_argument("name", help="a Python name, for example hinge_kto")

    clean = _verb(verbs, "clean", maintain.clean, "remove what can be made again: models, caches, logs")
    clean.add_argument("--dry-run", action="store_true", help="only say what would go, and how large it is")
    return parser


def _add_store_verbs(parser: argparse.ArgumentParser) -> None:
    """Add the verbs of the store."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    def action(name: str, handler: object, summary: str) -> argparse.ArgumentParser:
        return _verb(actions, name, handler, summary, f"results {name}")

    validate = action("validate", results.validate, "check files, digests, scores and prompts of every run")
    _add_results(validate)

    diff = action("diff", results.diff, "compare the verdicts of two results folders")
    diff.add_argument("first", type=Path, help="a results folder")
    diff.add_argument("second", type=Path, help="another")

    add = action("add", results.add, "add another results folder, or one run of it, to this one")
    add.add_argument("path", type=Path, help="a results folder, or the folder of a run")
    _add_results(add)

    export = action("export", results.export, "write all scores as one table: a row per run, task and metric")
    target = export.add_mutually_exclusive_group(required=True)
    target.add_argument("--csv", type=Path, metavar="FILE", help="for spreadsheets")
    target.add_argument("--parquet", type=Path, metavar="FILE", help="for programs")
    _add_results(export)

    imports = action("import", results.import_, "keep numbers of another program beside the runs, unranked")
    imports.add_argument("source", choices=SOURCES, help="the program that wrote the file")
    imports.add_argument("path", type=Path, help="results JSON, leaderboard, annotations, trainer state")
    imports.add_argument("--name", required=True, help="under which `halobench show` finds it")
    _add_results(imports)

    verify = action("verify", results.verify, "run a recorded run again and compare")
    verify.add_argument("run_id", help="see `halobench list runs`")
    verify.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="paths, and what changes no result",
    )
    verify.add_argument(
        "--tolerance",
        type=float,
        default=1e-6,
        metavar="X",
        help="largest difference of a score that counts as the same; by default 1e-6, for the same machine",
    )
    _add_results(verify)

    retract = action("retract", results.retract, "say that a run does not count any more; its files stay")
    retract.add_argument("run_id", help="see `halobench list runs`")
    retract.add_argument("--reason", required=True, metavar="TEXT", help="why, for readers of the board")
    retract.add_argument("--superseded-by", metavar="RUN_ID", help="the run that stands for it")
    _add_results(retract)

    schema = action("schema", results.schema, "write the JSON Schema of run.json beside the runs")
    _add_results(schema)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    handler: object,
    summary: str,
    examples: str | None = None,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=EXAMPLES[examples or name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler, verb=name)
    return parser


def _add_running(parser: argparse.ArgumentParser) -> None:
    """Add what verbs share that run a recipe."""
    _add_recipe(parser)
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="worker processes; by default one per processor"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many missing runs")
    parser.add_argument("--force", action="store_true", help="run again what is recorded, and compare")
    _add_results(parser)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a YAML file, or the name of a built-in recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="laid over the recipe")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a Python file to import"
    )


def _add_results(parser: argparse.ArgumentParser, *others: str) -> None:
    parser.add_argument(
        "--results",
        *others,
        type=Path,
        default=DEFAULT_RESULTS,
        metavar="DIR",
        help="results folder; by default results",
    )
