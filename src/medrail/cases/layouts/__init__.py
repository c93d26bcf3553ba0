"""Comes in: a configuration. Goes out: a ``Listing``: the entries (future cases) that lie there, and what is wrong.

``table.LAYOUTS`` is the table of the ways data can lie on a disk, one module each; ``series`` serves every layout that
meets DICOM, ``rows`` every one that reads a CSV.
"""
