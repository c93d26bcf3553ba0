"""What hypothesis makes for the metrics: true classes and probabilities with ties, sure answers and missing classes."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@st.composite
def answers(draw: st.DrawFn, most_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(n,) class indices and (n, K) probabilities that sum to 1."""
    n, n_classes = draw(st.integers(1, 30)), draw(st.integers(2, most_classes))
    truth = draw(hnp.arrays(np.int64, n, elements=st.integers(0, n_classes - 1)))
    parts = draw(hnp.arrays(np.int64, (n, n_classes), elements=st.integers(0, 3)))
    parts[:, 0] += parts.sum(axis=1) == 0
    return truth, parts / parts.sum(axis=1, keepdims=True)
