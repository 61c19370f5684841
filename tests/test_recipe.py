"""A recipe's identities: what makes a run, what makes rows comparable, what makes a row."""

import pytest

from halobench import LOSSES
from halobench.check.findings import source_digest
from halobench.recipe import Recipe
from halobench.registry import load_plugin
from tests.leaderboard.synthetic import ARCHITECTURE, make_recipe

WIDER = {**ARCHITECTURE, "hidden_size": 16}
FOLDER = {"path": "some/model"}
ONLINE = {"rounds": 2, "judge": {"name": "oracle"}}
PLUGIN = '''"""A loss."""
from halobench import Loss, LossOutput, Pairs, register_loss


@register_loss("plain", source="here")
class Plain(Loss):
    """Plain."""

    def __call__(self, batch: Pairs) -> LossOutput:
        """Return it."""
        return LossOutput(losses=batch.rejected.log_ratio - batch.chosen.log_ratio)  # a comment
'''


def test_a_run_is_named_by_its_loss_its_seed_and_12_digits():
    name, seed, digits = make_recipe("kto", seed=7).run_id.split("-")
    assert (name, seed, len(digits)) == ("kto", "s7", 12)
    assert set(digits) <= set("0123456789abcdef")


def test_the_same_recipe_gives_the_same_run_id_in_any_order_of_keys():
    values = make_recipe("kto").model_dump()
    shuffled = dict(sorted(values.items(), reverse=True))
    assert Recipe.model_validate(shuffled).run_id == make_recipe("kto").run_id


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("suite", "other"),
        ("label", "my row"),
        ("control", True),
        ("scoring.num_prompts", 5),
        ("scoring.scorers", ["oracle", "lm_eval"]),
        ("scoring.temperatures", [1.0]),
        ("execution.devices", 2),
        ("execution.microbatch_tokens", 64),
        ("trainer", {"deterministic": True}),
        ("plugins", ["elsewhere/loss.py"]),
        ("board.margin", 0.5),
        ("tuning", {"trials": 6, "seeds": 3}),
    ],
)
def test_what_does_not_change_the_result_does_not_change_the_run_id(key, value):
    assert make_recipe(**{key: value}).run_id == make_recipe().run_id


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("content.source", "cafe-v1-w1"),
        ("content.loss", "0123"),
        ("content.tokenizer", "0123"),
        ("data.num_pairs", 99),
        ("data.max_length", 63),
        ("data.max_prompt_length", 27),
        ("data.labels", "shuffled"),
        ("data.online", ONLINE),
        ("model.architecture", WIDER),
        ("base.num_documents", 8),
        ("base.steps", 3),
        ("base.batch_documents", 2),
        ("base.optim", {"lr": 2e-3}),
        ("sft", None),
        ("sft.epochs", 2),
        ("sft.batch_pairs", 4),
        ("sft.optim", {"lr": 2e-3}),
        ("loss.beta", 0.2),
        ("loss.lambda_u", 2.0),
        ("optim.lr", 2e-3),
        ("optim.betas", (0.9, 0.99)),
        ("optim.weight_decay", 0.1),
        ("optim.warmup_fraction", 0.0),
        ("optim.final_fraction", 0.0),
        ("optim.clip", 2.0),
        ("budget.match", "steps"),
        ("budget.epochs", 2),
        ("budget.batch_pairs", 16),
        ("budget.multiple", 2),
        ("z0", "microbatch"),
        ("precision", "64-true"),
        ("evaluate", "reference"),
        ("split", "dev"),
        ("seed", 1),
        ("split_seed", 1),
        ("base_seed", 1),
    ],
)
def test_what_changes_the_result_changes_the_run_id(key, value):
    assert make_recipe(**{key: value}).run_id != make_recipe().run_id


def test_a_new_version_of_a_loss_changes_the_run_id(monkeypatch):
    before = make_recipe("kto").run_id
    monkeypatch.setattr(LOSSES["kto"], "version", 2)
    assert make_recipe("kto").run_id != before


@pytest.mark.parametrize(
    ("loss", "key", "value"),
    [
        ("sft", "data.labels", "shuffled"),
        ("dpo", "data.demonstrations", "best_of_16"),
        ("kto", "data.demonstrations", "best_of_16"),
        ("dpo", "z0", "microbatch"),
        ("offline_ppo", "z0", "microbatch"),
    ],
)
def test_what_the_view_of_the_loss_ignores_does_not_change_the_run_id(loss, key, value):
    assert make_recipe(loss, **{key: value}).run_id == make_recipe(loss).run_id


def test_demonstrations_change_the_run_of_a_loss_that_imitates_them():
    assert make_recipe("sft", **{"data.demonstrations": "best_of_16"}).run_id != make_recipe("sft").run_id


def test_the_size_of_microbatches_is_part_of_the_run_only_where_z0_is_averaged_over_them():
    small = {"execution.microbatch_tokens": 64}
    assert make_recipe(z0="step", **small).run_id == make_recipe(z0="step").run_id
    assert make_recipe(z0="microbatch", **small).run_id != make_recipe(z0="microbatch").run_id


@pytest.mark.parametrize("evaluate", ["base", "reference"])
def test_a_stage_is_one_run_whatever_the_loss(evaluate):
    one = make_recipe("kto", evaluate=evaluate)
    other = make_recipe("dpo", evaluate=evaluate, **{"optim.lr": 0.5, "budget.multiple": 2})
    assert one.run_id == other.run_id
    assert one.run_id.startswith(f"{evaluate}-s0-")
    assert one.run_id != make_recipe("kto", evaluate=evaluate, seed=1).run_id  # of the decoding


def test_the_base_model_does_not_depend_on_the_feedback_but_the_reference_does():
    def ids(evaluate, **changes):
        return make_recipe(evaluate=evaluate, **changes).run_id

    for change in ({"data.num_pairs": 50}, {"sft.epochs": 3}, {"split_seed": 4}):
        assert ids("base", **change) == ids("base")
        assert ids("reference", **change) != ids("reference")


@pytest.mark.parametrize("evaluate", ["base", "reference", "aligned"])
@pytest.mark.parametrize("origin", ["new", "folder"])
def test_precision_changes_every_run(evaluate, origin):
    # answers are sampled in the recipe's precision, so those of a base model from a folder depend on it too
    given = (
        {"model": FOLDER, "base": None, "sft": None, "content.model": "0123"} if origin == "folder" else {}
    )
    runs = {
        make_recipe(evaluate=evaluate, precision=precision, **given).run_id
        for precision in ("32-true", "bf16-true")
    }
    assert len(runs) == 2


def test_a_model_folder_counts_by_its_content_and_not_by_its_name():
    given = {"base": None, "content.model": "0123"}
    here = make_recipe(**{**given, "model": FOLDER})
    moved = make_recipe(**{**given, "model": {"path": "moved/model"}})
    changed = make_recipe(**{**given, "model": FOLDER, "content.model": "4567"})
    assert here.run_id == moved.run_id != changed.run_id


def test_split_seed_follows_the_seed():
    assert [make_recipe(seed=seed).data_seed for seed in (0, 3)] == [0, 3]
    assert [make_recipe(seed=seed, split_seed=5).data_seed for seed in (0, 3)] == [5, 5]
    assert make_recipe(seed=3).reference_identity == make_recipe(seed=0, split_seed=3).reference_identity


def test_seeds_share_the_sft_stage_only_where_the_split_is_pinned():
    def sft_stages(**changes):
        return [make_recipe(seed=seed, **changes).reference_identity for seed in (0, 1)]

    first, second = sft_stages(split_seed=0)
    assert first == second
    first, second = sft_stages()
    assert first != second


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "dpo"},
        {"loss.beta": 0.5},
        {"optim.lr": 0.5},
        {"evaluate": "base"},
        {"evaluate": "reference"},
        {"budget.multiple": 2},
        {"data.labels": "shuffled"},
        {"data.demonstrations": "best_of_16"},
        {"data.undesirable_fraction": 0.1},
        {"data.online": ONLINE},
        {"seed": 1},
        {"scoring.scorers": ["lm_eval"]},
    ],
)
def test_rows_that_may_be_compared_share_a_setting(changes):
    assert make_recipe(**changes).setting_id == make_recipe().setting_id


@pytest.mark.parametrize(
    "changes",
    [
        {"content.source": "cafe-v1-w1"},
        {"data.num_pairs": 50},
        {"data.max_length": 63},
        {"model.architecture": WIDER},
        {"base.steps": 3},
        {"sft.epochs": 2},
        {"sft": None},
        {"budget.epochs": 2},
        {"budget.match": "examples"},
        {"budget.batch_pairs": 4},
        {"precision": "64-true"},
        {"split": "dev"},
        {"scoring.num_prompts": 5},
        {"split_seed": 0},
    ],
)
def test_rows_that_may_not_be_compared_are_in_different_settings(changes):
    assert make_recipe(**changes).setting_id != make_recipe().setting_id


def test_a_row_is_a_method_whatever_its_seeds():
    row = make_recipe().method_id
    for seeds in ({"seed": 1}, {"split_seed": 1}, {"base_seed": 1}, {"world_seed": 1}):
        assert make_recipe(**seeds).method_id == row
    for method in ({"loss.beta": 0.5}, {"optim.lr": 0.5}, {"loss": "dpo"}, {"budget.multiple": 2}):
        assert make_recipe(**method).method_id != row


@pytest.mark.parametrize("loss", ["dpo", "kto", "csft"])
def test_what_is_kept_of_the_feedback_makes_a_row(loss):
    changes = (
        {},
        {"data.answers": "one_per_prompt"},
        {"data.label_noise": 0.1},
        {"data.contradicting_share": 0.1},
        {"data.fraction": 0.1},
        {"data.desirable_fraction": 0.1},
        {"data.undesirable_fraction": 0.1},
    )
    assert len({make_recipe(loss=loss, **change).method_id for change in changes}) == 7


@pytest.mark.parametrize(("loss", "num_runs"), [("dpo", 1), ("kto", 3), ("csft", 3), ("sft", 3)])
def test_contradictions_are_settled_where_single_answers_are_shown(loss, num_runs):
    rules = ("keep", "majority", "drop")
    assert len({make_recipe(loss=loss, **{"data.contradictions": rule}).run_id for rule in rules}) == num_runs
    assert make_recipe(loss=loss, **{"data.contradictions": "keep"}).run_id == make_recipe(loss=loss).run_id


def test_how_feedback_is_sampled_and_judged_makes_a_row():
    changes = (
        None,
        ONLINE,
        {**ONLINE, "rounds": 3},
        {**ONLINE, "samples_per_prompt": 4},
        {**ONLINE, "temperature": 0.7},
        {**ONLINE, "judge": {"name": "oracle", "exact": True}},
    )
    assert len({make_recipe(**{"data.online": online}).method_id for online in changes}) == 6
    judged_by = {make_recipe(**{"data.online": ONLINE, "content.judge": digest}).run_id for digest in "ab"}
    assert len(judged_by) == 2


@pytest.mark.parametrize("evaluate", ["base", "reference"])
def test_the_stages_before_do_not_depend_on_what_is_sampled_after(evaluate):
    online = make_recipe(evaluate=evaluate, **{"data.online": ONLINE})
    assert online.run_id == make_recipe(evaluate=evaluate).run_id


def test_an_online_row_is_not_called_like_the_loss_on_other_feedback():
    assert make_recipe("kto").default_label == "kto"
    assert make_recipe("kto", **{"data.online": ONLINE}).default_label == "kto-online"
    assert make_recipe("kto", evaluate="reference", **{"data.online": ONLINE}).default_label == "reference"


def test_sft_is_the_same_run_whatever_is_kept_of_the_undesirable():
    whole = make_recipe(loss="sft")
    assert make_recipe(loss="sft", **{"data.undesirable_fraction": 0.1}).run_id == whole.run_id
    assert make_recipe(loss="sft", **{"data.desirable_fraction": 0.1}).run_id != whole.run_id


@pytest.fixture
def digest_of(tmp_path, monkeypatch):
    """Digest of a plug-in's source; its name is forgotten after the test."""
    monkeypatch.setattr(LOSSES, "_entries", {name: LOSSES._load(name) for name in LOSSES})

    def of(text):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "plain.py").write_text(text)
        LOSSES._entries.pop("plain", None)
        return source_digest(load_plugin(folder / "plain.py").Plain)

    return of


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Plain."""', '"""Plain, said better."""'),
        ('        """Return it."""\n', ""),
        ('"""A loss."""\n', ""),
        ("  # a comment", "  # why"),
        ("batch.rejected.log_ratio - batch", "batch.rejected.log_ratio  -  batch"),
    ],
)
def test_words_and_spaces_of_a_plugin_do_not_count(digest_of, old, new):
    assert old in PLUGIN
    assert digest_of(PLUGIN.replace(old, new)) == digest_of(PLUGIN)


def test_code_of_a_plugin_counts(digest_of):
    assert digest_of(PLUGIN.replace("log_ratio -", "log_ratio +")) != digest_of(PLUGIN)
    assert digest_of(PLUGIN + "\nHELPER = 1\n") != digest_of(PLUGIN)
