"""The board by keyboard alone: sorted, filtered, compared with a baseline, kept in the address."""

import csv

import pytest

pytestmark = pytest.mark.browser

ROWS = "tbody[data-suite=synthetic] tr:not(.group)"
SEARCH = "#board input[name=q]"


@pytest.fixture
def board(visit, site):
    return visit(site / "index.html")


def tab_to(page, element):
    """Press Tab until an element has the focus."""
    target = page.locator(element)
    for _ in range(150):
        page.keyboard.press("Tab")
        if target.evaluate("found => found === document.activeElement"):
            return
    raise AssertionError(f"the keyboard does not reach {element}")


def press(page, element, key="Enter"):
    tab_to(page, element)
    page.keyboard.press(key)


def choose(page, name, value):
    """Choose from a list by typing."""
    tab_to(page, f"#board select[name={name}]")
    page.keyboard.type(value)


def header(key):
    return f"#board th[data-key={key}] button"


def names(page):
    """Names of the rows of one setting that are shown, in their order."""
    return page.locator(f"{ROWS}:visible th").all_inner_texts()


def headers(page):
    return page.locator("#board thead th:visible").all_inner_texts()


def sorting(page):
    """What a screen reader hears about the order of the sorted columns."""
    found = page.locator("#board thead th").evaluate_all("all => all.map(th => [th.innerText, th.ariaSort])")
    return {name: order for name, order in found if order != "none"}


def status(page):
    return page.locator("#board [role=status]").inner_text()


def view(page):
    """Everything that an address is to bring back."""
    tables = page.locator("#board table").inner_text()
    controls = page.locator("#board input, #board select")
    return (
        tables,
        sorting(page),
        status(page),
        controls.evaluate_all("all => all.map(e => [e.value, e.checked])"),
    )


def test_enter_on_a_header_sorts_up_then_down_then_not(board):
    as_it_was = names(board)
    orders = [["csft", "dpo", "kto", "reference", "slic"], ["slic", "reference", "kto", "dpo", "csft"]]
    heard = [{"Row": "ascending"}, {"Row": "descending"}]
    assert sorting(board) == {}
    tab_to(board, header("row"))
    for order, said in zip([*orders, as_it_was], [*heard, {}], strict=True):
        board.keyboard.press("Enter")
        assert (names(board), sorting(board)) == (order, said)


def test_numbers_are_sorted_as_numbers_the_best_first_and_what_is_missing_last(board):
    press(board, header("primary"))
    assert names(board) == ["kto", "slic", "dpo", "csft", "reference"]  # 0.512 0.403 0.289 0.288 0.161
    press(board, header("second"))
    assert names(board) == ["kto", "slic", "dpo", "csft", "reference"]  # the last two have no T*
    board.keyboard.press("Enter")
    assert names(board) == ["dpo", "slic", "kto", "csft", "reference"]


def test_typing_filters_and_says_how_many_rows_are_left(board):
    assert status(board) == "10 of 10 rows in 2 of 2 settings"
    tab_to(board, SEARCH)
    board.keyboard.type("CSFT")
    assert names(board) == ["csft"]
    assert status(board) == "2 of 10 rows in 2 of 2 settings"
    for _ in "CSFT":
        board.keyboard.press("Backspace")
    assert status(board) == "10 of 10 rows in 2 of 2 settings"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("suite", "synthetic", "5 of 10 rows in 1 of 2 settings"),
        ("loss", "slic", "2 of 10 rows in 2 of 2 settings"),
        ("level", "ranked", "4 of 10 rows in 2 of 2 settings"),
        ("level", "control", "2 of 10 rows in 2 of 2 settings"),
    ],
)
def test_a_facet_leaves_its_rows(board, name, value, said):
    choose(board, name, value)
    assert status(board) == said


def test_a_column_can_be_taken_away_and_another_be_had(board):
    press(board, "#board summary")
    before = headers(board)
    press(board, "#board input[name=column][value=note]", "Space")
    press(board, "#board input[name=column][value=steps]", "Space")
    assert headers(board) == [*(name for name in before if name != "Note"), "Steps"]
    cells = board.locator(f"{ROWS}:visible").first.locator("td:visible, th:visible")
    assert cells.count() == len(headers(board))
    assert cells.last.inner_text() == "10"


def test_a_baseline_turns_estimates_into_tested_differences(board, site):
    with (site / "contrasts.csv").open(newline="") as file:
        [found] = [
            line
            for line in csv.DictReader(file)
            if (line["suite"], line["decode"]) == ("synthetic", "T=1")
            and {line["a"], line["b"]} == {"dpo", "kto"}
        ]
    sign = 1 if found["a"] == "kto" else -1
    choose(board, "baseline", "dpo")
    cells = dict(zip(names(board), board.locator(f"{ROWS} > :nth-child(4)").all_inner_texts(), strict=True))
    assert cells["dpo"] == "baseline"
    assert cells["kto"].startswith(f"{sign * float(found['difference']):+.3f} [")
    assert cells["kto"].endswith("better")


def test_the_address_brings_the_same_view_to_another_reader(board, visit, site):
    tab_to(board, SEARCH)
    board.keyboard.type("o")
    choose(board, "suite", "synthetic")
    choose(board, "level", "ranked")
    choose(board, "baseline", "dpo")
    press(board, "#board summary")
    press(board, "#board input[name=column][value=steps]", "Space")
    press(board, header("row"))
    board.keyboard.press("Enter")
    assert names(board) == ["kto", "dpo"]
    assert view(visit(site / "index.html", board.url.partition("#")[2])) == view(board)


def test_reset_brings_back_the_board_as_it_was(board, visit, site):
    choose(board, "baseline", "kto")
    press(board, header("row"))
    press(board, "#board [data-do=reset]")
    assert "#" not in board.url
    assert view(board) == view(visit(site / "index.html"))


def test_the_download_is_the_rows_and_columns_that_are_shown(board):
    tab_to(board, SEARCH)
    board.keyboard.type("kto")
    with board.expect_download() as download:
        press(board, "#board [data-do=csv]")
    with open(download.value.path(), newline="") as file:
        lines = list(csv.DictReader(file))
    assert {(line["Suite"], line["Row"]) for line in lines} == {
        ("synthetic", "kto"),
        ("studies/wider", "kto"),
    }
    assert {line["Primary metric"] for line in lines} == {"0.512"}
