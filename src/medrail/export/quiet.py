"""Tools that log advice and warn about what is done on purpose, kept silent meanwhile."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(logger_name: str, level: int) -> Iterator[None]:
    """No warnings, and of the logger ("" is the root's) only what is at least as bad as ``level``."""
    logger = logging.getLogger(logger_name or None)
    before = logger.level
    logger.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
