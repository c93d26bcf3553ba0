"""A trained Run -> a smaller, faster one: a run like any other, with ``parent`` and ``slim`` in its passport."""
