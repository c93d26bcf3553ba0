"""Comes in: a table of cases and the facts of its images. Goes out: the verdict, as report, page and corrected table.

``verdict.check_data`` judges, ``page.page`` draws, ``fix.correct`` corrects; none of them changes the data.
"""
