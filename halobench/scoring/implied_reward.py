"""x."""
from halobench.registry import SCORERS
@SCORERS.register("implied_reward", source="x")
class A:
    """x."""
    needs_world = True
