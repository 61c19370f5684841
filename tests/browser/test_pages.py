"""Every kind of page in Chromium: accessible, silent, at home in its files."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser.axe import violations
from tests.browser.sites import page_kinds

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_kind_of_page(visit, site, scheme):
    found = {kind: violations(visit(page, color_scheme=scheme)) for kind, page in page_kinds(site).items()}
    assert found
    assert {kind: problems for kind, problems in found.items() if problems} == {}


def test_links_lead_to_files_and_places_that_exist(visit, site):
    lost = []
    for page in page_kinds(site).values():
        for link in visit(page).locator("a[href]").evaluate_all("links => links.map(link => link.href)"):
            url = urlsplit(link)
            file = Path(unquote(url.path))
            # a place with = is the state of a table
            place = url.fragment and "=" not in url.fragment
            if not file.is_file() or (place and f' id="{unquote(url.fragment)}"' not in file.read_text()):
                lost.append(f"{page.name}: {link}")
    assert lost == []


def test_every_number_is_there_without_javascript(visit, site):
    for page in page_kinds(site).values():
        with_script, without = visit(page), visit(page, java_script_enabled=False)
        tables = [opened.locator("table").all_inner_texts() for opened in (with_script, without)]
        assert tables[0] == tables[1]
