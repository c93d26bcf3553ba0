"""cases.csv: every evaluated case in a row, the worst answers first. ``medrail compare`` and people read it.

Columns, in this order: id, patient; classification: truth, predicted, correct, p/CLASS... (of several labels truth and
predicted name any number of them, as ``a|b``, and correct is 1 where all are right); segmentation: each metric;
then centre, defects, leaked (where leaks were accepted), what the calibration adds, and group/NAME.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medrail.bundle import Predictor
from medrail.cases import Leaked
from medrail.cases.groups import PREFIX
from medrail.evaluate.scored import Scored, labels_told


def case_table(worst_first: Sequence[Scored], predictor: Predictor, leaked: Leaked) -> str:
    """The text of cases.csv."""
    rows = [_row(one, predictor, leaked) for one in worst_first]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    groups = [column for column in columns if column.startswith(PREFIX)]
    columns = [column for column in columns if column not in groups] + groups
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(one: Scored, predictor: Predictor, leaked: Leaked) -> dict[str, Any]:
    classes = predictor.spec.classes
    row: dict[str, Any] = {"id": one.case.id, "patient": one.case.patient}
    if predictor.spec.multi_label:
        answer = {"truth": labels_told(one.labels, classes), "predicted": labels_told(one.findings, classes)}
        row |= {**answer, "correct": int(one.findings == one.labels)}
        row |= {f"p/{name}": f"{p:.6f}" for name, p in zip(classes, one.probabilities, strict=True)}
    elif predictor.spec.task == "classification":
        answer = {"truth": classes[one.truth], "predicted": classes[one.predicted]}
        row |= {**answer, "correct": int(one.predicted == one.truth)}
        row |= {f"p/{name}": f"{p:.6f}" for name, p in zip(classes, one.probabilities, strict=True)}
    else:
        row |= {name: _number(value) for name, value in one.scores.items()}
    row |= {"centre": one.case.centre, "defects": " ".join(one.defects)}
    row |= {"leaked": leaked.kinds(one.case.id)} if leaked else {}
    calibration = predictor.calibration
    if calibration and calibration.thresholds and len(classes) == 2 and not predictor.spec.multi_label:
        row["most_probable"] = classes[int(np.argmax(one.probabilities))]
    if one.possible is not None:
        row["conformal_set"] = "|".join(one.possible)
    if math.isfinite(one.ood_score):
        row |= {"ood_score": f"{one.ood_score:.6g}", "unlike_training": int(one.unlike)}
    return row | {f"{PREFIX}{name}": value for name, value in one.case.groups}


def _number(value: float) -> str:
    return f"{value:.6f}" if math.isfinite(value) else ""
