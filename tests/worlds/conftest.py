"""The default world, its pairs and its corpus, drawn once."""

import pytest

from halobench.worlds.cafe import Cafe


@pytest.fixture(scope="session")
def cafe():
    return Cafe(0)


@pytest.fixture(scope="session")
def feedback(cafe):
    return cafe.feedback(num_pairs=3000, split_seed=0)


@pytest.fixture(scope="session")
def documents(cafe):
    return cafe.documents(20_000, seed=0)
