"""The arithmetic both sides must get the same numbers from. Pure numpy."""
