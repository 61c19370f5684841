"""axe-core on a page: WCAG 2.0 to 2.2 at A and AA, and best practice."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# preload would fetch style sheets, which files may not; only an experimental rule uses it
RUN = """async rules => {
  const found = await axe.run(document, {runOnly: rules, resultTypes: ["violations"], preload: false});
  return found.violations.flatMap(rule => rule.nodes.map(node => `${rule.id}: ${node.html.slice(0, 200)}`));
}"""


def violations(page: Page) -> list[str]:
    """What axe finds wrong in a page: a rule and an element per line."""
    script = importlib.resources.files("axe_playwright_python") / "axe.min.js"
    page.evaluate(script.read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(RUN, RULES)
    return found
