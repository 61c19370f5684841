"""The loader walks the plan and goes on where its state says."""

from halobench.training.sampler import StepLoader


def loader():
    return StepLoader(5, lambda index: f"step {index}")


def test_the_loader_yields_every_step_of_the_plan():
    assert len(loader()) == 5
    assert list(loader()) == [f"step {index}" for index in range(5)]


def test_its_state_counts_the_steps_delivered():
    steps, plan = loader(), []
    for step in steps:
        plan.append((step, steps.state_dict()["position"]))
    assert plan == [(f"step {index}", index + 1) for index in range(5)]


def test_it_goes_on_after_the_steps_of_its_state():
    first = loader()
    delivered = iter(first)
    next(delivered), next(delivered)
    second = loader()
    second.load_state_dict(first.state_dict())
    assert list(second) == ["step 2", "step 3", "step 4"]


def test_steps_are_made_when_they_are_asked_for():
    made = []
    steps = iter(StepLoader(3, lambda index: made.append(index)))
    next(steps)
    assert made == [0]
