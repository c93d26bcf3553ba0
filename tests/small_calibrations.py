"""A small calibration, for the tests of what applies, ships and serves it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from medrail.bundle.calibration import Calibration, Conformal, Ood

NETWORK = "ab" * 32


def small_calibration(features: int, network_sha256: str = NETWORK, **changes: Any) -> Calibration:
    """Temperature 2, "yes" from 0.8 on, sets at 10 %, and features around 0 with unit variance."""
    calibration = Calibration(
        network_sha256=network_sha256,
        temperature=2.0,
        thresholds={"yes": 0.8},
        threshold_rule="highest Youden index on 40 validation cases",
        conformal=Conformal(alpha=0.1, quantile=0.6),
        ood=Ood(np.zeros(features), np.eye(features), threshold=3.0, quantile=0.99),
        made_from={"split": "val", "cases": 40, "patients": 30},
    )
    return replace(calibration, **changes)
