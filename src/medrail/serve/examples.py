"""The examples of the OpenAPI document, whole: FastAPI leaves out what is null in them."""

from __future__ import annotations

from typing import Any

from medrail.serve.problems import Refusal, document
from medrail.serve.schemas import DISCLAIMER

REQUEST_ID = "6f1c2a34-9d0e-4c57-8b7a-2f4e1d3c5b6a"
_TIMINGS = {"upload": 2.1, "queue": 0.1, "decode": 3.4, "prepare": 1.9, "model": 8.2, "post": 0.3, "preview": 0.0}
_COMMON = {
    "bundle_id": "chest-xray/1@3f2a9c41d0e7",
    "inference_time_ms": 13.8,
    "timings_ms": _TIMINGS,
    "unlike_training": False,
    "ood_score": 1.07,
    "preview_png": None,
    "request_id": REQUEST_ID,
    "disclaimer": DISCLAIMER,
}
_CLASSIFICATION = {
    "model_name": "chest-xray",
    "model_version": "1",
    **_COMMON,
    "task": "classification",
    "class_name": "pneumonia",
    "confidence": 0.93,
    "probabilities": {"normal": 0.07, "pneumonia": 0.93},
    "conformal_set": ["pneumonia"],
    "abstain": False,
    "findings": None,
    "thresholds": None,
    "evidence": None,
}
_FINDINGS = {
    **_CLASSIFICATION,
    "model_name": "chest-findings",
    "bundle_id": "chest-findings/1@0c7d52ab9f13",
    "class_name": None,
    "confidence": None,
    "probabilities": {"effusion": 0.81, "mass": 0.12, "nodule": 0.56},
    "findings": ["effusion", "nodule"],
    "conformal_set": None,
    "thresholds": {"effusion": 0.5, "mass": 0.5, "nodule": 0.5},
}
_SEGMENTATION = {
    "model_name": "brain",
    "model_version": "2",
    **_COMMON,
    "bundle_id": "brain/2@81d4c0b7aa12",
    "task": "segmentation",
    "mask": {
        "shape": [91, 109, 91],
        "axes": ["D", "H", "W"],
        "spacing_mm": [2.0, 2.0, 2.0],
        "classes": [
            {"index": 0, "name": "background", "colour": None, "voxels": 673836, "volume_ml": 5390.688},
            {"index": 1, "name": "brain", "colour": "#e69f00", "voxels": 228793, "volume_ml": 1830.344},
        ],
        "encoding": "nifti.gz;base64",
        "data": "H4sIAAAAAAAA...",
        "rle": {"shape": [1, 1, 4], "axes": ["D", "H", "W"], "order": "C", "values": [0, 1, 0], "lengths": [1, 2, 1]},
    },
}

ANSWERS: dict[str, Any] = {
    "classification": {"summary": "A classifier", "value": _CLASSIFICATION},
    "findings": {"summary": "A classifier of several labels", "value": _FINDINGS},
    "segmentation": {"summary": "A segmenter", "value": _SEGMENTATION},
}
_JOB = {
    "job_id": "0f8fad5bd9cb469fa16570867728950e",
    "status": "running",
    "progress": 0.46,
    "model_name": "brain",
    "model_version": "2",
    "created": "2026-03-02T09:14:07.120Z",
    "links": {
        "self": "/v1/jobs/0f8fad5bd9cb469fa16570867728950e",
        "result": "/v1/jobs/0f8fad5bd9cb469fa16570867728950e/result",
    },
    "problem": None,
    "request_id": REQUEST_ID,
}
_DIFFERENCE = {
    "kind": "classification",
    "same_decision": True,
    "probabilities": {"normal": -0.02, "pneumonia": 0.02},
    "largest": 0.02,
}
_MASK_DIFFERENCE = {
    "kind": "segmentation",
    "voxels": 1204,
    "volume_ml": 9.632,
    "share": 0.001334,
    "classes": [
        {
            "name": "brain",
            "voxels": [228793, 228917],
            "volume_ml": [1830.344, 1831.336],
            "volume_difference_ml": 0.992,
            "dice": 0.99737,
        }
    ],
    "map": {
        "shape": [91, 109, 91],
        "axes": ["D", "H", "W"],
        "spacing_mm": [2.0, 2.0, 2.0],
        "classes": [
            {"index": 0, "name": "same", "colour": None, "voxels": 901425, "volume_ml": 7211.4},
            {"index": 1, "name": "only the first", "colour": "#e69f00", "voxels": 540, "volume_ml": 4.32},
            {"index": 2, "name": "only the second", "colour": "#56b4e9", "voxels": 664, "volume_ml": 5.312},
            {"index": 3, "name": "another class", "colour": "#009e73", "voxels": 0, "volume_ml": 0.0},
        ],
        "encoding": None,
        "data": None,
        "rle": {"shape": [1, 1, 4], "axes": ["D", "H", "W"], "order": "C", "values": [0, 1, 0], "lengths": [1, 2, 1]},
    },
}
_COMPARED = {
    "inference_time_ms": 27.6,
    "timings_ms": _TIMINGS,
    "request_id": REQUEST_ID,
    "disclaimer": DISCLAIMER,
}
COMPARISONS: dict[str, Any] = {
    "classification": {
        "summary": "Two versions of a classifier",
        "value": {"first": _CLASSIFICATION, "second": _CLASSIFICATION, "difference": _DIFFERENCE, **_COMPARED},
    },
    "segmentation": {
        "summary": "Two versions of a segmenter",
        "value": {"first": _SEGMENTATION, "second": _SEGMENTATION, "difference": _MASK_DIFFERENCE, **_COMPARED},
    },
}

A_JOB: dict[str, Any] = {"job": {"summary": "A job", "value": _JOB}}
A_CANCELLED_JOB: dict[str, Any] = {"job": {"summary": "A cancelled job", "value": _JOB | {"status": "cancelled"}}}
_REFUSED_ITEM = {"index": 1, "status": 422, "answer": None, "problem": document(Refusal("corrupt-file"), REQUEST_ID)}
_BATCH = {
    "items": [{"index": 0, "status": 200, "answer": _CLASSIFICATION, "problem": None}, _REFUSED_ITEM],
    "answered": 1,
    "refused": 1,
    "request_id": REQUEST_ID,
    "disclaimer": DISCLAIMER,
}
A_BATCH: dict[str, Any] = {"two": {"summary": "One answered, one refused", "value": _BATCH}}
BY_SUMMARY = {
    example["summary"]: example["value"]
    for examples in (ANSWERS, COMPARISONS, A_JOB, A_CANCELLED_JOB, A_BATCH)
    for example in examples.values()
}
