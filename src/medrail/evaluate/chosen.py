"""For each kind of number the interval that covers best: which one and why stands in docs/explanation/statistics.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from medrail.evaluate.bca import Interval, bca_of, in_words
from medrail.evaluate.bootstrap import Statistic, left_out, membership, point, resampled
from medrail.evaluate.jackknife import jackknife_interval
from medrail.evaluate.proportion import Share, mean_share_interval, share_interval


@dataclass(frozen=True)
class MeanShare:
    """The mean of several shares: balanced accuracy of the classes' sensitivities."""

    shares: tuple[Share, ...]


@dataclass(frozen=True)
class Area:
    """An area under a curve, or a mean of such areas: average precision, the AUC of several classes."""


Kind: TypeAlias = Share | MeanShare | Area


def chosen_intervals(
    statistics: Mapping[str, Statistic],
    kinds: Mapping[str, Kind],
    groups: Sequence[Any],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Interval]:
    """95 % intervals by patient, each by the method of its kind.

    A ``Share`` gets Wilson's, a ``MeanShare`` one made of Wilson's, an ``Area`` the jackknife's on the logit scale (BCa
    where that hangs on one patient), and everything else BCa, all of them on the same resamples. The AUC of two classes
    is not measured here: see ``delong``.

    Parameters
    ----------
    statistics:
        Name -> function of the items' weights.
    kinds:
        Name -> what kind of number it is; others are means, ratios and the like.
    groups:
        For each item its patient.

    Returns
    -------
    Name -> low, high, and the method in words.
    """
    found = {
        name: share_interval(kind, groups) if isinstance(kind, Share) else mean_share_interval(kind.shares, groups)
        for name, kind in kinds.items()
        if name in statistics and not isinstance(kind, Area)
    }
    rest = {name: one for name, one in statistics.items() if name not in found}
    _, n_groups = membership(groups)
    values = {name: point(one, len(groups)) for name, one in rest.items()}
    without = left_out(rest, groups)
    for name, kind in kinds.items():
        if name in rest and isinstance(kind, Area):
            area = jackknife_interval(values[name], without[name])
            if math.isfinite(area.low):
                found[name] = Interval(area.low, area.high, f"{area.method} over {n_groups} patients")
            elif values[name] in (0.0, 1.0):
                found[name] = area
    rest = {name: one for name, one in rest.items() if name not in found}
    drawn = resampled(rest, groups, resamples=resamples, seed=seed)
    found |= {name: in_words(bca_of(values[name], drawn[name], without[name]), n_groups, resamples) for name in rest}
    return {name: found[name] for name in statistics}
