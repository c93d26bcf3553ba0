"""What serving reached, in docs/explanation/serving.md, from benchmarks/results/serving.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
PAGE = ROOT / "docs" / "explanation" / "serving.md"
BEGIN, END = "<!-- serving: made by benchmarks/make_page.py -->\n", "<!-- /serving -->"
WHO = {
    "usual_app": "the usual app: `async def`, Pillow, eager torch on one thread",
    "threadpool": "FastAPI on its thread pool, torch on one thread",
    "litserve": "LitServe, batches of 8, ONNX Runtime",
    "bentoml": "BentoML, one worker, ONNX Runtime",
    "ray_serve": "Ray Serve, one replica, batches of 8, ONNX Runtime",
    "fp32": "**medrail, fp32**",
    "slim": "**medrail, slimmed**",
}
_AIM = re.compile(r"at (least|most) ([\d.]+)( \w+)? is the aim")


def table(result: Mapping[str, Any]) -> str:
    """Markdown: a row a server, then a row an aim, then the notes and the machine."""
    measures = {one["name"]: one for one in result["measures"]}
    clients = sorted({int(found[1]) for name in measures if (found := re.search(r"/c(\d+)/rps$", name))})
    parts = [
        *_servers(measures, clients),
        "",
        *_aims(result["measures"]),
        "",
        *(f"- {note}" for note in result["notes"]),
    ]
    machine = result["machine"]
    flags = ", ".join(machine["flags"]) or "none of the known ones"
    where = f"{machine['cpu']}, {machine['cores']} cores, flags: {flags}; {result['date']}, commit {result['commit']}."
    return "\n".join([*parts, "", where, ""])


def _servers(measures: Mapping[str, Any], clients: Sequence[int]) -> Iterator[str]:
    if not clients:
        return
    counts = " / ".join(map(str, clients))
    titles = (
        f"requests/s at {counts} clients",
        f"p95, ms, at {counts}",
        f"p99, ms, at {counts}",
        "errors",
        "ready, s",
        "MB",
    )
    yield f"| server | {' | '.join(titles)} |"
    yield "|---|" + "---:|" * len(titles)
    for name, told in WHO.items():
        if f"serve/{name}/c{clients[0]}/rps" in measures:
            yield f"| {told} | {' | '.join(_cells(name, measures, clients))} |"
    for which, told in (("fp32", "fp32"), ("slim", "slimmed")):
        ceiling = measures.get(f"serve/ceiling/{which}/rps")
        if ceiling:
            yield f"| the same work without HTTP, {told} | {ceiling['value']:.3g} | | | | | |"


def _cells(name: str, measures: Mapping[str, Any], clients: Sequence[int]) -> Iterator[str]:
    def value(what: str) -> float:
        return float(measures[f"serve/{name}/{what}"]["value"])

    yield " / ".join(f"{value(f'c{count}/rps'):.3g}" for count in clients)
    for what in ("p95_ms", "p99_ms"):
        yield " / ".join(f"{value(f'c{count}/{what}'):.0f}" for count in clients)
    yield f"{sum(value(f'c{count}/errors') for count in clients):.0f}"
    yield f"{value('ready_s'):.1f}"
    yield f"{value('rss_loaded_mb'):.0f}"


def _aims(measures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| what | median [smallest, largest round] | aim | reached |"
    yield "|---|---:|---:|---|"
    for one in measures:
        found = _AIM.search(one["baseline"].replace(", on a CPU", " on a CPU"))
        if found:
            at_least, aim = found[1] == "least", float(found[2])
            reached = one["value"] >= aim if at_least else one["value"] <= aim
            value = f"{one['value']:.3g} {one['unit']} [{one['low']:.3g}, {one['high']:.3g}]"
            what = f"`{one['name']}`: {one['baseline'].partition(';')[0]}"
            yield f"| {what} | {value} | {'≥' if at_least else '≤'} {aim:g} | {'yes' if reached else '**no**'} |"


def with_table(text: str, result: Mapping[str, Any]) -> str:
    """The page with its table, between its two marks, as the results say."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE.name}: no {BEGIN.strip()} ... {END} to put the table into.")
    return before + begin + table(result) + end + after


def main() -> None:
    if not PAGE.is_file() or BEGIN not in PAGE.read_text(encoding="utf-8"):
        print(f"{PAGE} is not there, or has no {BEGIN.strip()} ... {END}: no table of what serving reached is written")
        return
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")
    print(f"wrote the table of what was reached of {PAGE}")


if __name__ == "__main__":
    main()
