"""Others' numbers: the facts as printed, their intervals and claims by hand, their place on the board."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from halobench.cli import main
from halobench.errors import ResultsError
from halobench.leaderboard.build import build, stale_files
from halobench.leaderboard.counts import NOT_RESOLVABLE, compare_counts, compare_family
from halobench.leaderboard.figures import save_figure
from halobench.leaderboard.published import MARK, half_width, prints_right, published_tables
from halobench.leaderboard.published_figures import published_plots
from halobench.results.published import load_published

RESULTS = Path(__file__).parents[2] / "results"
MODELS = [
    "Pythia 1.4B",
    "Pythia 2.8B",
    "Pythia 6.9B",
    "Pythia 12B",
    "Llama 7B",
    "Llama 13B",
    "Llama 30B",
]
# win rates of the paper's grid to three digits, computed elsewhere from the authors' file of results
WINRATES = """
unaligned       .027 .061 .064 .080 .281 .291 .365
SFT             .150 .205 .242 .189 .359 .371 .418
CSFT            .129 .178 .227 .191 .387 .398 .387
SLiC            .068 .139 .139 .105 .334 .379 .385
offline PPO     .039 .074 .090 .082 .355 .387 .510
DPO             .035 .086 .082 .092 .309 .416 .535
KTO             .035 .070 .094 .080 .410 .469 .664
SFT+CSFT        .145 .201 .186 .219 .379 .375 .434
SFT+SLiC        .076 .137 .182 .184 .381 .400 .375
SFT+offline PPO .131 .221 .244 .189 .414 .482 .506
SFT+DPO         .113 .184 .209 .227 .428 .498 .617
SFT+KTO         .074 .186 .209 .182 .480 .518 .652
"""


@pytest.fixture(scope="module")
def counts():
    return {count.name: count for count in load_published(RESULTS).counts}


@pytest.fixture(scope="module")
def tables():
    return published_tables(RESULTS)


def copied(tmp_path, file="archangel.csv", /, **changes):
    """A results folder with a published file; `changes` go into its first row."""
    with (RESULTS / "published" / file).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0] |= changes
    target = tmp_path / "results" / "published" / file
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "results"


def test_the_committed_facts_are_the_102_runs_and_49_rows(counts):
    published = load_published(RESULTS)
    assert (len(counts), len(published.scores)) == (102, 49)
    assert [sum(c.setting == s for c in counts.values()) for s in ("scale", "imbalance", "oasst")] == [
        84,
        11,
        7,
    ]
    assert all(count.source and count.shown_in for count in counts.values())
    assert sum(bool(score.note) for score in published.scores) == 2  # the copy error of CPO and KTO


def test_the_grid_has_the_win_rates_that_were_computed_from_the_authors_file(tables):
    scale = tables.counts[tables.counts["setting"] == "scale"]
    found = {(r["row"], f"{r['family']} {r['size']}"): f"{r['winrate']:.3f}"[1:] for _, r in scale.iterrows()}
    expected = {
        (line[:15].strip(), model): rate
        for line in WINRATES.strip().splitlines()
        for model, rate in zip(MODELS, line[15:].split(), strict=True)
    }
    assert found == expected


def test_an_undecided_comparison_is_not_won(tables):
    kto = tables.counts.set_index("name").loc["archangel_kto_llama7b"]
    assert kto["undecided"] == 512 - 210 - 268
    assert kto["winrate"] == 210 / 512
    # both ends of a Clopper-Pearson interval are quantiles of beta distributions
    ends = stats.beta.ppf([0.025, 0.975], [210, 211], [303, 302])
    assert (kto["winrate_low"], kto["winrate_high"]) == pytest.approx(tuple(ends))


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("unaligned_mistral7b_oasst", "0.525 +- 0.037"),
        ("dpo_mistral7b_oasst", "0.600 +- 0.037"),
        ("kto_mistral7b_oasst", "0.652 +- 0.036"),
        ("kto-unary_mistral7b_oasst", "0.631 +- 0.036"),
        ("unaligned_mistral7b-instruct_oasst", "0.621 +- 0.036"),  # the paper has 0.031
    ],
)
def test_the_paper_s_rates_and_half_widths_come_out_digit_by_digit(counts, name, printed):
    count = counts[name]
    assert f"{count.wins / count.total:.3f} +- {half_width(count):.3f}" == printed


def test_one_printed_half_width_is_not_that_of_the_counts(tables):
    printed = tables.counts.dropna(subset=["printed_rate"])
    assert len(printed) == 5
    assert [row["name"] for _, row in printed.iterrows() if not prints_right(row)] == [
        "unaligned_mistral7b-instruct_oasst"
    ]


@pytest.mark.parametrize(
    ("first", "second", "difference", "p"),
    [
        ("fracdata_kto_llama7b_FD0.1_WD13.33_FU1.0_WU1.0", "archangel_dpo_llama7b", 0.0195, 0.62),
        ("fracdata_kto_llama7b_FD0.1_WD13.33_FU1.0_WU1.0", "archangel_sft+dpo_llama7b", -0.0996, 0.0078),
        ("kto_mistral7b_oasst", "dpo_mistral7b_oasst", 0.0527, 0.093),
        ("kto-unary_mistral7b_oasst", "dpo_mistral7b_oasst", 0.03125, 0.34),
        ("archangel_sft+kto_llama30b", "archangel_sft+dpo_llama30b", 0.0352, 0.27),
        ("archangel_dpo_llama30b", "archangel_ppo_llama30b", 0.0254, 0.45),
    ],
)
def test_differences_and_p_values_are_those_found_before(counts, first, second, difference, p):
    a, b = counts[first], counts[second]
    found = compare_counts(a.wins, a.total, b.wins, b.total)
    assert found.difference == pytest.approx(difference, abs=5e-5)
    assert found.p == pytest.approx(p, rel=0.02)


# claim and what is compared to where it is established, with the adjusted p-values found before
VERDICTS = {
    ("Up to 7B alignment adds nothing over SFT: DPO", "better"): {"Llama 13B": None, "Llama 30B": None},
    ("Up to 7B alignment adds nothing over SFT: DPO", "worse"): {},
    ("Up to 7B alignment adds nothing over SFT: KTO", "better"): {
        "Llama 7B": 6e-4,
        "Llama 13B": None,
        "Llama 30B": None,
    },
    ("Up to 7B alignment adds nothing over SFT: KTO", "worse"): {"Pythia 1.4B": 6e-4},
    ("Offline PPO is as good as DPO but for Llama 30B", "better"): {},
    ("Offline PPO is as good as DPO but for Llama 30B", "worse"): {"Llama 30B": 0.003},
    ("Offline PPO is as good as DPO but for Llama 30B: without SFT", "worse"): {},
    ("Offline PPO is as good as DPO but for Llama 30B: without SFT", "better"): {},
    ("SFT+KTO competes with SFT+DPO at all scales", "better"): {},
    ("SFT+KTO competes with SFT+DPO at all scales", "worse"): {},
    ("KTO alone beats DPO alone for Llama", "better"): {"Llama 7B": 0.005, "Llama 30B": 2e-4},
    ("KTO alone beats DPO alone for Llama", "worse"): {},
    ("KTO without SFT competes with SFT+KTO at 13B and 30B", "better"): {},
    ("KTO without SFT competes with SFT+KTO at 13B and 30B", "worse"): {
        "Pythia 1.4B": 0.034,
        "Pythia 2.8B": 2.6e-7,
        "Pythia 6.9B": None,
        "Pythia 12B": None,
    },
    ("KTO alone matches SFT+DPO for Llama", "better"): {},
    ("KTO beats DPO on OpenAssistant, with one answer per prompt too", "better"): {},
}


@pytest.mark.parametrize(("claim", "verdict"), list(VERDICTS))
def test_claims_have_the_verdicts_that_were_found_before(tables, claim, verdict):
    rows = tables.claims[(tables.claims["claim"] == claim) & (tables.claims["verdict"] == verdict)]
    expected = VERDICTS[claim, verdict]
    assert list(rows["where"]) == list(expected)
    for (_, row), p in zip(rows.iterrows(), expected.values(), strict=True):
        assert p is None or row["p_holm"] == pytest.approx(p, rel=0.2)


def test_halos_beat_non_halos_after_sft_at_13b_and_30b_and_lose_without_it_at_pythia(tables):
    # losses on the same prompts are not added up: 2 x 2 comparisons a scale, adjusted together
    claims = tables.claims.set_index("claim")
    after = claims.loc["HALOs match or beat non-HALOs at all scales: after SFT"]
    alone = claims.loc["HALOs match or beat non-HALOs at all scales: without SFT"]
    assert len(after) == len(alone) == 28
    assert "worse" not in set(after["verdict"])
    assert {"Llama 13B", "Llama 30B"} <= set(after.loc[after["verdict"] == "better", "where"])
    assert set(alone.loc[alone["verdict"] == "better", "where"]) == {"Llama 30B"}
    assert set(alone.loc[alone["verdict"] == "worse", "where"]) == set(MODELS[:4])


def test_the_counts_give_the_added_up_rates_too_that_the_board_does_not_use(counts):
    scale = [count for count in counts.values() if count.setting == "scale"]

    def added_up(sft, *losses):
        return [
            sum(count.wins for count in scale if (count.size, count.row) in cells)
            for cells in (
                {(model.split()[1], f"SFT+{loss}" if sft else loss) for loss in losses} for model in MODELS
            )
        ]

    for sft, established in (
        (True, {5: (".490", ".388", 2e-5), 6: (".562", ".404", 9e-12)}),
        (
            False,
            {
                0: (".037", ".099", 1e-4),
                1: (".080", ".158", 1e-4),
                2: (".086", ".183", 1e-4),
                3: (".087", ".148", 1e-4),
                6: (".522", ".386", None),
            },
        ),
    ):
        halos, others = added_up(sft, "DPO", "offline PPO"), added_up(sft, "SLiC", "CSFT")
        family = [(a, 1024, b, 1024) for a, b in zip(halos, others, strict=True)]
        adjusted = [found.p for found in compare_family(family)]
        assert {k for k, p in enumerate(adjusted) if p < 0.05} == set(established)
        for k, (first, second, p) in established.items():
            assert (f"{halos[k] / 1024:.3f}"[1:], f"{others[k] / 1024:.3f}"[1:]) == (first, second)
            assert p is None or adjusted[k] < 1.1 * p


def test_fewer_desirable_examples_are_neither_established_as_equal_nor_as_better(tables):
    rows = tables.claims[tables.claims["where"] == "10% of desirable"]
    assert list(rows["b"]) == ["archangel_dpo_llama7b", "archangel_sft+dpo_llama7b"]
    assert set(rows["verdict"]) == {NOT_RESOLVABLE}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"wins": "600"},
            "archangel.csv:2: wins + losses = 1084: must be at most total = 512; copy them again",
        ),
        ({"wins": "-1"}, "archangel.csv:2: wins = '-1': must be at least 0"),
        ({"sft": "maybe"}, "archangel.csv:2: sft = 'maybe': must be true or false"),
        ({"source": ""}, "archangel.csv:2: source: is missing; give it a value"),
        ({"judge": "gpt"}, "archangel.csv:2: judge = 'gpt': unknown key"),
        ({"name": "archangel_sft_llama7b", "model": "huggyllama/llama-7b"}, "archangel_sft_llama7b of"),
    ],
)
def test_a_row_that_is_not_valid_is_named_by_its_line(tmp_path, changes, problem):
    with pytest.raises(ResultsError) as error:
        load_published(copied(tmp_path, **changes))
    [line] = error.value.problems
    assert problem in line


def test_a_file_that_nothing_reads_is_refused(tmp_path):
    results = copied(tmp_path)
    (results / "published" / "blog.csv").touch()
    with pytest.raises(ResultsError, match=r"blog\.csv: nothing reads it"):
        load_published(results)


def test_a_folder_without_published_numbers_shows_none(tmp_path):
    assert published_tables(tmp_path) is None
    build(tmp_path, tmp_path / "board")
    assert not (tmp_path / "board" / "published.html").exists()
    assert "published" not in (tmp_path / "board" / "index.html").read_text()


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    results = copied(tmp_path_factory.mktemp("published"))
    copied(results.parent, "simpo.csv")
    build(results, results.parent / "board")
    return results.parent


def test_the_board_shows_them_marked_with_intervals_and_verdicts(board):
    page = (board / "board" / "published.html").read_text()
    markdown = (board / "board" / "README.md").read_text()
    for text in (page, markdown):
        assert text.count(MARK) >= 18
        assert "0.410 [0.367, 0.454]" in text
        assert NOT_RESOLVABLE.capitalize() in text
        assert "21.4 / 20.8 / 16.6" in text
    written = {path.name for path in (board / "board" / "published").iterdir()}
    names = ["halos", "kto-dpo", "lengths", "imbalance", "mistral"]
    assert written == {f"{name}.{kind}" for name in names for kind in ("svg", "csv")} | {
        *("counts.csv", "claims.csv", "scores.csv")
    }


def test_a_changed_fact_makes_the_board_stale(board, tmp_path):
    results = copied(tmp_path, wins="15")
    copied(tmp_path, "simpo.csv")
    stale = stale_files(results, board / "board")
    assert {"README.md", "published.html", "published/counts.csv", "published/halos.svg"} <= set(stale)
    assert "published/mistral.svg" not in stale  # another figure has the same bytes when it is drawn again


def test_simpo_s_table_alone_can_be_shown(tmp_path):
    results = copied(tmp_path, "simpo.csv")
    build(results, tmp_path / "board")
    assert [path.name for path in (tmp_path / "board" / "published").iterdir()] == ["scores.csv"]
    assert "princeton-nlp/SimPO" in (tmp_path / "board" / "README.md").read_text()


def test_a_figure_draws_every_row_of_its_table_at_its_win_rate(tables):
    [plot] = [plot for plot in published_plots(tables.counts) if plot.name == "kto-dpo"]
    drawn = sorted(float(bar.lines[0].get_ydata()[0]) for axes in plot.figure.axes for bar in axes.containers)
    assert len(plot.table) == 42
    assert drawn == pytest.approx(sorted(plot.table["wins"] / plot.table["total"]))


def plotted(capsys, *arguments):
    code = main(["plot", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_plot_writes_the_chosen_rows_and_their_table(board, tmp_path, capsys):
    out = tmp_path / "figure.pdf"
    arguments = ["published/kto-dpo", "--where", "loss=kto,dpo", "--where", "family=llama"]
    code, _, _ = plotted(capsys, *arguments, "--results", board / "results", "--out", out)
    assert code == 0
    assert out.read_bytes().startswith(b"%PDF")
    table = pd.read_csv(out.with_suffix(".csv"))
    assert (set(table["loss"]), set(table["family"]), len(table)) == ({"kto", "dpo"}, {"Llama"}, 12)


@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_a_figure_has_the_same_bytes_whenever_it_is_saved(tmp_path, suffix, magic):
    saved = []
    for number in range(2):
        figure = Figure()
        figure.subplots().plot([1, 2], label="line")
        save_figure(figure, tmp_path / f"{number}.{suffix}")
        saved.append((tmp_path / f"{number}.{suffix}").read_bytes())
    assert saved[0].startswith(magic)
    assert saved[0] == saved[1]


def test_plot_lists_the_figures(board, capsys):
    code, text, _ = plotted(capsys, "--list", "--results", board / "results")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == [
        f"published/{name}" for name in ("halos", "kto-dpo", "lengths", "imbalance", "mistral")
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["published/hallos"], "did you mean 'published/halos'?"),
        (["published/halos", "--where", "los=kto"], "no such column (did you mean 'loss'?)"),
        (["published/halos", "--where", "loss=ktoo"], "no row has that value; there are base, csft, dpo"),
        (["published/halos", "--where", "loss=kto"], "nothing is left to draw"),
        (["published/halos", "--where", "loss"], "expected key=value"),
        (["published/halos", "--out", "figure.gif"], "ends in none of .svg, .png, .pdf"),
        ([], "name a figure"),
    ],
)
def test_plot_explains_in_one_line_what_is_wrong(board, capsys, tmp_path, monkeypatch, arguments, problem):
    monkeypatch.chdir(tmp_path)
    code, _, messages = plotted(capsys, *arguments, "--results", board / "results")
    assert code == 2
    assert len(messages.splitlines()) == 1
    assert problem in messages
    assert list(tmp_path.iterdir()) == []
