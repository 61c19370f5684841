"""Menus are drawn from the world seed: balanced, and with something for most requests."""

from collections import Counter

import pytest

from halobench.errors import DataError
from halobench.worlds.cafe import Cafe
from tests.worlds.spec import KEYS, misses, probability


@pytest.fixture(scope="module", params=[1, 2, 1000])
def menu(request):
    return Cafe(request.param).menu


def test_menu_has_48_items_half_of_each_kind(menu):
    items = list(menu.items.values())
    assert Counter(item.kind for item in items) == {"drink": 24, "snack": 24}
    assert Counter((item.kind, item.temperature) for item in items).most_common()[-1][1] == 12
    assert {item.price for item in items} == set(range(1, 10))
    assert all(name == item.name for name, item in menu.items.items())


def test_most_requests_have_a_fit_and_every_single_wish_has_several(menu):
    fits = {key: sum(misses(item, key) == 0 for item in menu.items.values()) for key in KEYS}
    assert sum(probability(key) for key in KEYS if fits[key]) >= 0.6
    single = [k for k in KEYS if sum(part is not None for part in (k[1], *k[2], k[3])) == 1]
    assert len(single) == 2 * (2 + 2 * 4 + 6)  # of a kind: a temperature, or a wish, or a cap
    assert min(fits[key] for key in single) >= 2


def test_special_of_the_house_is_an_item_of_its_kind_with_two_attributes_at_least(menu):
    for kind, name in menu.special.items():
        assert menu.items[name].kind == kind
        assert sum(menu.items[name].has.values()) >= 2


def test_menu_depends_on_the_world_seed_and_on_nothing_else(cafe):
    assert Cafe(0).menu == cafe.menu
    menus = [Cafe(seed).menu for seed in (1, 2)]
    assert menus[0].items != menus[1].items
    assert cafe.menu.items not in [menu.items for menu in menus]
    assert len({menu.persona_jitter for menu in [cafe.menu, *menus]}) == 3


def test_content_id_names_the_world(cafe):
    assert cafe.content_id == Cafe(0).content_id
    assert cafe.content_id != Cafe(1).content_id


def test_description_lists_every_item_with_what_a_person_needs_to_check_an_answer(cafe):
    rows = {line.split()[0]: line.replace(",", "").split() for line in cafe.describe().splitlines() if line}
    for item in cafe.menu.items.values():
        contains = [a for a in ("milk", "nuts", "sugar", "spice") if item.has[a]] or ["-"]
        assert rows[item.name] == [item.name, item.kind, item.temperature, str(item.price), *contains]
    assert set(cafe.menu.special.values()) <= set(rows["house"])


def test_cafe_reads_no_files_and_has_no_end_of_pairs(cafe):
    with pytest.raises(DataError, match=r"data\.path = 'x'.*reads no files"):
        Cafe.open(path="x", world_seed=0)
    with pytest.raises(DataError, match="say how many"):
        cafe.feedback(num_pairs=None, split_seed=0)
