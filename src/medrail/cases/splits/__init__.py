"""Comes in: cases. Goes out: the same cases, each with its split and fold; a patient is never divided.

The one function is ``split.assign_splits``; ``patients`` and ``copies`` say which cases are of one patient.
"""
