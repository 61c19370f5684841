"""Examples that `--help` ends with, by verb."""

from __future__ import annotations

EXAMPLES = {
    "halobench": """examples:
  halobench run quickstart                       run the built-in suite and show its board
  halobench run quickstart --plugin my_loss.py loss.name=my_loss
  halobench plan recipes/studies/tuning.yaml     what would run, without running it
  halobench show kto                             a loss: equation, source, parameters""",
    "run": """examples:
  halobench run quickstart
  halobench run quickstart seed=0 data.num_pairs=600 --results try
  halobench run quickstart --plugin hinge_kto.py loss.name=hinge_kto
  halobench run my_recipe.yaml loss.beta=0.3 'seed=[0,1,2]' --jobs 4""",
    "tune": """examples:
  halobench tune studies/tuning                                     what a search finds
  halobench tune studies/tuning --write recipes/losses/cafe         and take its values as defaults
  halobench tune my_search.yaml search.trials=48 'seed=[100,101,102]'""",
    "plan": """examples:
  halobench plan quickstart
  halobench plan quickstart seed=0 --json
  halobench plan archangel/llama-7b-fair --device h100-80gb""",
    "data": """examples:
  halobench data quickstart seed=0
  halobench data studies/real_feedback data.path=FOLDER model.tokenizer.path=FILE seed=0 --json""",
    "leaderboard": """examples:
  halobench leaderboard             rebuild leaderboard/ from results/
  halobench leaderboard --check     exit 1 if the files there are stale""",
    "power": """examples:
  halobench power quickstart        from the noise that its runs show
  halobench power --seeds 5 10 20 --prompts 500 805 --difference 0.03
  halobench power --sd 0.02 0.30 0.45       from stated standard deviations, before any run""",
    "plot": """examples:
  halobench plot --list
  halobench plot quickstart-scores --where loss=kto,dpo --out kto-dpo.pdf
  halobench plot published/kto-dpo --where family=llama --where sft=true
  halobench plot tuning/cafe-hyper --from results --out tuning.png""",
    "list": """examples:
  halobench list losses
  halobench list runs --results .halobench/quickstart --json""",
    "show": """examples:
  halobench show kto                a loss
  halobench show cafe               a data source; for a world its menu
  halobench show quickstart         a recipe
  halobench show kto-s0-0123456789ab --json
  halobench show kto-s0-0123456789ab --page run.html     recipe, curves and samples side by side""",
    "sample": """examples:
  halobench sample kto-s0-0123456789ab "hi , a cold snack , no milk , under 5 .\"""",
    "export": """examples:
  halobench export kto-s0-0123456789ab my-policy
  halobench export kto-s0-0123456789ab my-adapter --adapter     of a run with an adapter
and then:
  AutoModelForCausalLM.from_pretrained("my-policy")""",
    "results validate": """examples:
  halobench results validate                        exit 1 if anything is wrong with results/
  halobench results validate --results .halobench/quickstart""",
    "results add": """examples:
  halobench results add ../other/results                       all of it, or nothing
  halobench results add ../other/results/runs/kto-s0-0123456789ab""",
    "results export": """examples:
  halobench results export --csv scores.csv
  halobench results export --parquet scores.parquet --results .halobench/quickstart""",
    "results import": """examples:
  halobench results import lm-eval results_2026-01-31.json --name my-model-lm-eval
  halobench results import alpaca-eval leaderboard.csv --name alpaca-eval-2
  halobench results import alpaca-eval annotations.json --name my-model-alpaca-eval
  halobench results import trl trainer_state.json --name my-model-trl
and then:
  halobench show alpaca-eval-2""",
    "results verify": """examples:
  halobench results verify kto-s0-0123456789ab                  exit 1 if it comes out differently
  halobench results verify kto-s0-0123456789ab --tolerance 0.05          on another machine
  halobench results verify kto-s0-0123456789ab data.path=FOLDER model.path=FOLDER
  halobench results verify my_loss-s0-0123456789ab plugins=[my_loss.py]
A record keeps the last part of every path; give the whole ones. What it was computed with belongs to it too:
  halobench results verify kto-s0-0123456789ab execution.hot_path=reference""",
    "results retract": """examples:
  halobench results retract kto-s0-0123456789ab --reason "trained on a wrong file"
  halobench results retract kto-s0-0123456789ab --reason "wrong file" --superseded-by kto-s0-ba9876543210""",
    "results schema": """examples:
  halobench results schema          writes results/run.schema.json""",
    "results diff": """examples:
  halobench results diff results .halobench/quickstart      do the verdicts agree?""",
    "new": """examples:
  halobench new loss hinge_kto      writes hinge_kto.py and test_hinge_kto.py""",
    "clean": """examples:
  halobench clean --dry-run         what would be removed, and how large it is
  halobench clean""",
}
