"""x."""
from halobench.registry import SCORERS
@SCORERS.register("oracle", source="x")
class A:
    """x."""
    needs_world = True
