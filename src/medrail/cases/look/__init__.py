"""Comes in: cases. Goes out: ``Facts`` of each, found by reading its image once, in several processes, and remembered.

``survey.survey`` looks at all of them, ``examine.examine`` at one; ``burned_in`` and ``unlike`` are what it looks for.
"""
