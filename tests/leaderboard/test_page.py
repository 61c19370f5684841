"""Parts of the pages: word diff, names of files, what a page can hold, drawings, columns."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from halobench.leaderboard.page.columns import number_text, numeric_columns
from halobench.leaderboard.page.render import json_data, printable, slug
from halobench.leaderboard.page.svg import curve, histogram
from halobench.leaderboard.page.words import cut, word_diff


def marked(pieces):
    """Pieces as text, words that only this side has in brackets."""
    return "".join(f"[{piece.text}]" if piece.only_here else piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("try the soup .", "try the soup .", ("try the soup .", "try the soup .")),
        ("try the soup .", "try the cake .", ("try the [soup ].", "try the [cake ].")),
        ("hello ! try it", "try it", ("[hello ! ]try it", "try it")),
        ("a b", "", ("[a b]", "")),
        ("", "", ("", "")),
        ("same\nwords", "same words", ("same\nwords", "same words")),  # spaces are no words
        ("  a b", "a b", ("[  ]a b", "a b")),
    ],
)
def test_the_word_diff_marks_what_the_other_text_lacks(left, right, expected):
    assert tuple(marked(side) for side in word_diff(left, right)) == expected


def test_pieces_add_up_to_their_text():
    texts = ("  well ,\tthis is\n\nnot easy . <b>no</b>  ", "\nthis is easy , well")
    sides = word_diff(*texts)
    assert tuple("".join(piece.text for piece in side) for side in sides) == texts


def test_a_text_of_a_megabyte_is_cut_and_what_is_left_out_is_counted():
    assert cut("x" * 1_000_000) == ("x" * 2000, 998_000)
    assert cut("short") == ("short", 0)


@pytest.mark.parametrize("name", ["kto", "sft_again", "kto-s0-0123456789ab", "studies-online", "v1.5"])
def test_a_name_that_is_safe_stays_as_it_is(name):
    assert slug(name) == name


HOSTILE = [
    *(
        "kto (beta=0.1, optim.lr=0.001)",
        "KTO",
        "../../etc/passwd",
        "a/b",
        "a b",
        "a-b ",
        "<script>",
        "",
        "..",
        ".",
    ),
    *(
        "a-vs-b",
        "50% & more?#x",
        "\x00",
        "\u202eltr",
        "CON:",
        "x" * 500,
        "\ud800",
        "\u00e9t\u00e9",
        "-a",
        "a-",
    ),
]


def test_any_name_gives_a_safe_file_name_of_its_own():
    found = [slug(name) for name in HOSTILE]
    assert all(re.fullmatch(r"[a-z0-9_][a-z0-9_.-]{0,59}", name) for name in found)
    assert not any("-vs-" in name or name.endswith(".") for name in found)
    assert len({*found, *map(slug, ["kto", "a-b", "b", "a"])}) == len(HOSTILE) + 4


def test_data_for_the_script_cannot_end_its_element():
    value = {"</script>": ["<!--", "&amp;", "\u2028\u2029", "a\x00b\x1b", 1.5, None]}
    text = str(json_data(value))
    assert not set(text) & set("<>&\u2028\u2029\x00\x1b")
    assert json.loads(text) == {"</script>": ["<!--", "&amp;", "\u2028\u2029", "a\x00b\x1b", 1.5, None]}


def test_what_no_page_can_hold_is_replaced():
    assert printable("a\x00b\x08c\x7fd\x9b e\ud800") == "a\ufffdb\ufffdc\ufffdd\ufffd e\ufffd"
    assert printable("tab\tline\nfeed\r\n") == "tab\tline\nfeed\n"
    assert printable(3) == 3


def test_a_curve_goes_from_its_largest_to_its_smallest_value():
    drawn = curve("loss", np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.1, 0.3]), "step")
    [points] = re.findall(r'points="([^"]*)"', drawn)
    assert points == "44.0,6.0 140.0,80.0 236.0,43.0"  # the drawing is 240 by 96, its axes at 44 and 80
    assert 'aria-label="loss: 0.5 at step 1, 0.3 at step 3"' in drawn
    assert [re.sub("<[^>]*>", "", text) for text in re.findall("<text.*?</text>", drawn)] == [
        "0.5",
        "0.1",
        "1",
        "3 steps",
    ]


def test_a_curve_has_a_gap_where_it_is_no_number():
    drawn = curve("loss", np.arange(5.0), np.array([1, 2, np.nan, 3, 4.0]), "step")
    assert len(re.findall("<polyline", drawn)) == 2
    assert "nan" not in drawn
    assert curve("loss", np.arange(2.0), np.array([np.nan, np.inf]), "step") == ""


def test_a_long_curve_is_drawn_with_few_points():
    drawn = curve("loss", np.arange(100_000.0), np.sin(np.arange(100_000.0)), "step")
    assert len(drawn) < 3000


def test_a_histogram_tells_the_shares_on_either_side_of_zero():
    drawn = histogram("d", np.array([-1.0, 0.5, 1.0, 1.0]), bins=5)
    assert "d: 75% above zero, 25% below" in drawn
    assert len(re.findall("<rect", drawn)) == 3


def test_names_in_drawings_are_escaped():
    name = '"><script>'
    assert "<script>" not in curve(name, np.arange(2.0), np.arange(2.0), name)
    assert "<script>" not in histogram(name, np.array([1.0]))


def test_numbers_are_offered_in_groups_and_ends_of_intervals_belong_to_theirs():
    frame = pd.DataFrame(
        {"row": ["a"], "control": [False], "winrate": [0.5], "winrate_low": [0.4], "winrate_high": [0.6]}
        | {"kl": [0.1], "my_metric": [3.0], "note": [""], "collapse_low": [0.0], "collapse_high": [0.5]}
    )
    found = [(column.key, column.group) for column in numeric_columns([frame])]
    assert found == [("winrate", "Win rates"), ("kl", "Texts"), ("collapse", "Texts"), ("my_metric", "Other")]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("winrate", "0.512 [0.400, 0.600]"),
        ("collapse", "0.000 to 0.500"),
        ("steps", "94"),
        ("flops", "1.67e+12"),
        ("kl", "0.123"),
        ("gone", ""),
        ("absent", ""),
    ],
)
def test_numbers_as_text(key, text):
    record = {
        "winrate": 0.5123,
        "winrate_low": 0.4,
        "winrate_high": 0.6,
        "collapse_low": 0.0,
        "collapse_high": 0.5,
    }
    record |= {"steps": 94.0, "flops": 1.66588e12, "kl": 0.1234, "gone": float("nan")}
    assert number_text(record, key) == text
