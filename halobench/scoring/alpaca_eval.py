"""x."""
from halobench.registry import SCORERS
@SCORERS.register("alpaca_eval", source="x")
class A:
    """x."""
    needs_world = True
