"""The board by keyboard alone: sorted, filtered, kept in the address."""

import csv

import pytest

pytestmark = pytest.mark.browser

TABLE = "[data-table=synthetic]"
FILTER = f"{TABLE} input[type=search]"


@pytest.fixture
def board(visit, site):
    return visit(site / "index.html")


def tab_to(page, element):
    """Press Tab until an element has the focus."""
    for _ in range(100):
        page.keyboard.press("Tab")
        if page.locator(element).evaluate("found => found === document.activeElement"):
            return
    raise AssertionError(f"the keyboard does not reach {element}")


def header(name):
    return f'{TABLE} thead button:has-text("{name}")'


def names(page):
    """Names of the rows that are shown, in their order."""
    return page.locator(f"{TABLE} tbody tr:visible th").all_inner_texts()


def sorting(page):
    """What a screen reader hears about the order of a column, by column."""
    heads = page.locator(f"{TABLE} thead th")
    orders = heads.evaluate_all("all => all.map(th => th.ariaSort)")
    return dict(zip(heads.all_inner_texts(), orders, strict=True))


def test_enter_on_a_header_sorts_up_and_then_down(board):
    tab_to(board, header("Row"))
    board.keyboard.press("Enter")
    assert names(board) == ["csft", "dpo", "kto", "reference", "slic"]
    board.keyboard.press("Enter")
    assert names(board) == ["slic", "reference", "kto", "dpo", "csft"]


def test_numbers_are_sorted_as_numbers(board):
    tab_to(board, header("T=1"))
    board.keyboard.press("Enter")
    assert names(board) == ["reference", "csft", "dpo", "slic", "kto"]  # 0.161 0.288 0.289 0.403 0.512


def test_the_sorted_column_says_so(board):
    assert set(sorting(board).values()) == {"none"}
    tab_to(board, header("Row"))
    heard = []
    for _ in range(2):
        board.keyboard.press("Enter")
        heard.append({name: order for name, order in sorting(board).items() if order != "none"})
    assert heard == [{"Row": "ascending"}, {"Row": "descending"}]


def test_typing_filters_and_says_how_many_rows_are_left(board):
    status = board.locator(f"{TABLE} [role=status]")
    assert status.inner_text() == "5 of 5 rows"
    tab_to(board, FILTER)
    board.keyboard.type("SFT")
    assert names(board) == ["csft"]
    assert status.inner_text() == "1 of 5 rows"
    for _ in "SFT":
        board.keyboard.press("Backspace")
    assert len(names(board)) == 5


def test_the_address_brings_the_same_view_to_another_reader(board, visit, site):
    tab_to(board, FILTER)
    board.keyboard.type("0.4")
    tab_to(board, header("Row"))
    board.keyboard.press("Enter")
    assert names(board) == ["dpo", "kto", "slic"]
    other = visit(site / "index.html", board.url.partition("#")[2])
    assert (names(other), sorting(other)) == (names(board), sorting(board))
    assert other.locator(FILTER).input_value() == "0.4"


def test_the_download_is_the_rows_that_are_shown(board):
    tab_to(board, FILTER)
    board.keyboard.type("kto")
    with board.expect_download() as download:
        tab_to(board, f"{TABLE} .action")
        board.keyboard.press("Enter")
    with open(download.value.path(), newline="") as file:
        head, *rows = csv.reader(file)
    assert head == list(sorting(board))
    assert [line[1] for line in rows] == ["kto"]
