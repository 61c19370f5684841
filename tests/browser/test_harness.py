"""The tools of these tests find what they are there to find."""

import pytest

from tests.browser.axe import violations

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        ("<script>console.error('said')</script>", "console: said"),
        ("<script>throw Error('thrown')</script>", "error: thrown"),
        ("<script>alert('shown')</script>", "dialog: shown"),
        ("<img src='http://127.0.0.1:9/away.png'>", "request: http://127.0.0.1:9/away.png"),
        ("<img src='missing.png'>", "failed: "),
    ],
)
def test_a_visitor_complains_about_pages_that_speak_or_reach_out(visitor, tmp_path, html, complaint):
    file = tmp_path / "page.html"
    file.write_text(html)
    visitor(file)
    assert any(found.startswith(complaint) for found in visitor.complaints)


def test_axe_finds_a_picture_without_words_and_faint_text(visit, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(
        "<html lang=en><title>t</title><main><h1>t</h1><p style='color:#bbb'>faint</p><img src=''>"
    )
    rules = {found.split(":")[0] for found in violations(visit(file))}
    assert rules == {"color-contrast", "image-alt"}
