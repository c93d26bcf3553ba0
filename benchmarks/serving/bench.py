"""ResNet-18 behind seven servers: requests a second and latency at 1, 8 and 32 clients that wait for their answer.

Usage: bench.py [--slim-bundle DIR] [--rounds N] [--seconds S] [--only NAME,NAME] [--keep DIR] [--peers DIR]
[--server-cores 0] [--client-cores 1]. Every server gets the same JPEGs of 224 to 500 px, one after the other in every
round, on the same core; the client is another process on another core. Without --slim-bundle medrail slims the small
network of this benchmark itself. Peers are installed into environments of their own (peers.txt); one that cannot be is
named in the notes. The machine must do nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import material
import peers
import record
from servers import CONTENDERS, Contender, Place, on_cores, running

HERE = Path(__file__).parent
CLIENTS = (1, 8, 32)
PEERS = tuple(one.name for one in CONTENDERS if not one.is_ours)
AIMS = {
    "serve/fp32/vs_ceiling": "at least 0.95 is the aim",
    "serve/fp32/vs_best_peer": "at least 1 is the aim",
    "serve/fp32/p99_vs_best_peer": "at least 1 is the aim",
    "serve/slim/vs_litserve": "at least 5 is the aim, on a CPU with AMX or VNNI",
    "serve/slim/vs_usual_app": "at least 10 is the aim, on a CPU with AMX or VNNI",
    "serve/slim/p95_vs_usual_app": "at least 10 is the aim, on a CPU with AMX or VNNI",
    "serve/ready_s": "at most 1.5 s is the aim",
    "serve/rss_mb": "at most 350 MB is the aim",
}
_PERCENTILES = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}


@dataclass
class Found:
    """Round by round: what was measured, by name; and who could not be, with the reason."""

    rounds: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    engines: dict[str, str] = field(default_factory=dict)
    client_cores: list[float] = field(default_factory=list)

    def add(self, name: str, value: float) -> None:
        self.rounds.setdefault(name, []).append(value)


def measure(contender: Contender, place: Place, found: Found, arguments: argparse.Namespace) -> None:
    """One turn of one server: ready, memory, and every number of clients."""
    name = f"serve/{contender.name}"
    with running(contender, place, arguments.server_cores) as server:
        found.add(f"{name}/ready_s", server.ready_s)
        found.add(f"{name}/rss_mb", server.rss_mb())
        for clients in arguments.clients:
            command = [sys.executable, HERE / "client.py", server.port, contender.path, place.images, clients]
            told = _json(on_cores(arguments.client_cores, [*map(str, command), str(arguments.seconds)]))
            ordered = sorted(told["ms"])
            errors = sum(told["errors"].values())
            if not ordered:
                raise RuntimeError(
                    f"no right answer to {clients} clients within {arguments.seconds:g} s ({errors} errors)"
                )
            found.add(f"{name}/c{clients}/rps", told["rps"])
            found.add(f"{name}/c{clients}/errors", errors)
            found.client_cores.append(told["client"])
            for percentile, share in _PERCENTILES.items():
                found.add(f"{name}/c{clients}/{percentile}", ordered[min(len(ordered) - 1, int(share * len(ordered)))])
            print(f"{contender.name} at {clients}: {told['rps']:.1f}/s, {errors} errors", flush=True)
        found.add(f"{name}/rss_loaded_mb", server.rss_mb())


def ceiling(which: str, place: Place, found: Found, arguments: argparse.Namespace) -> None:
    """Read, decode, prepare and network on the servers' core, without HTTP."""
    command = [sys.executable, str(HERE / "ceiling.py"), str(getattr(place, which)), str(place.images)]
    told = _json(on_cores(arguments.server_cores, [*command, str(max(3.0, arguments.seconds))]))
    found.add(f"serve/ceiling/{which}/rps", told["rps"])
    found.engines[which] = told["engine"]
    print(f"ceiling {which}: {told['rps']:.1f}/s {told['ways']}", flush=True)


def _json(command: Sequence[str]) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout))


def measured(place: Place, arguments: argparse.Namespace) -> Found:
    """All rounds, every contender in turn in each."""
    found = Found()
    chosen = [one for one in CONTENDERS if not arguments.only or one.name in arguments.only]
    for contender in chosen:
        reason = "" if contender.is_ours else peers.make(contender.environment, place.peers)
        if reason:
            found.absent[contender.name] = reason
    for number in range(arguments.rounds):
        print(f"-- round {number + 1} of {arguments.rounds}", flush=True)
        for which in ("fp32", "slim"):
            if any(one.name == which for one in chosen):
                ceiling(which, place, found, arguments)
        for contender in chosen:
            if contender.name in found.absent:
                continue
            try:
                measure(contender, place, found, arguments)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                found.absent[contender.name] = str(error)
                print(f"{contender.name}: {error}", flush=True)
    return found


def ratios(found: Found, clients: Sequence[int]) -> Iterator[record.Measure]:
    """The measures with aims. A round's ratio is of that round; of several numbers of clients the worst counts."""
    rounds = found.rounds
    turns = min((len(values) for name, values in rounds.items() if _who(name) not in found.absent), default=0)

    def worst(name: str, of: Callable[[int, int], float], told: str) -> Iterator[record.Measure]:
        try:
            values = [min(of(turn, count) for count in clients) for turn in range(turns)]
        except (KeyError, IndexError, ValueError):
            return  # somebody who is needed for it was not there
        yield record.Measure.of(name, values, "times", f"{told}; {AIMS[name]}")

    def rps(who: str, count: int, turn: int) -> float:
        return rounds[f"serve/{who}/c{count}/rps"][turn]

    def late(who: str, what: str, count: int, turn: int) -> float:
        return rounds[f"serve/{who}/c{count}/{what}"][turn]

    there = [who for who in PEERS if f"serve/{who}/c{clients[0]}/rps" in rounds and who not in found.absent]
    yield from worst(
        "serve/fp32/vs_ceiling",
        lambda turn, _: max(rps("fp32", count, turn) for count in clients) / rounds["serve/ceiling/fp32/rps"][turn],
        "medrail in fp32 at the number of clients that suits it best, against the same work without HTTP",
    )
    yield from worst(
        "serve/fp32/vs_best_peer",
        lambda turn, count: rps("fp32", count, turn) / max(rps(who, count, turn) for who in there),
        "requests/s against the best peer at the same number of clients, the worst of all numbers of clients",
    )
    yield from worst(
        "serve/fp32/p99_vs_best_peer",
        lambda turn, count: (
            min(late(who, "p99_ms", count, turn) for who in there) / late("fp32", "p99_ms", count, turn)
        ),
        "p99 of the best peer against medrail's, the worst of all numbers of clients",
    )
    for peer in ("litserve", "usual_app"):
        yield from worst(
            f"serve/slim/vs_{peer}",
            lambda turn, count, peer=peer: rps("slim", count, turn) / rps(peer, count, turn),
            "requests/s at the same number of clients, the worst of all numbers of clients",
        )
    if 8 in clients:
        yield from worst(
            "serve/slim/p95_vs_usual_app",
            lambda turn, _: late("usual_app", "p95_ms", 8, turn) / late("slim", "p95_ms", 8, turn),
            "p95 of the usual app against medrail's, at 8 clients",
        )


def _who(name: str) -> str:
    return name.split("/")[1]


def measures(found: Found, clients: Sequence[int]) -> Iterator[record.Measure]:
    """First what has an aim, then everything that was measured."""
    yield from ratios(found, clients)
    for name, unit in (("ready_s", "s"), ("rss_mb", "MB")):
        if f"serve/fp32/{name}" in found.rounds:
            told = {"ready_s": "from the command to the first /readyz", "rss_mb": "just ready"}[name]
            values = found.rounds[f"serve/fp32/{name}"]
            yield record.Measure.of(
                f"serve/{name}", values, unit, f"ResNet-18 in fp32, {told}; {AIMS[f'serve/{name}']}"
            )
    told = {one.name: one.told for one in CONTENDERS}
    units = {"rps": "requests/s", "errors": "errors", "ready_s": "s"}
    for name, values in found.rounds.items():
        who, what = _who(name), name.rpartition("/")[2]
        if who in found.absent:
            continue
        unit = units.get(what, "MB" if what.endswith("mb") else "ms")
        yield record.Measure.of(name, values, unit, told.get(who, "the same work on the same core without HTTP"))


def notes(found: Found, place: Place, arguments: argparse.Namespace, slimmed: str) -> list[str]:
    """What a reader must know."""
    versions = {"litserve": "litserve", "bentoml": "bentoml", "ray": "ray", "torch": "torch"}
    there = [f"{name} {peers.version(place.peers / where, name)}" for where, name in versions.items()]
    said = [
        f"Servers on core {arguments.server_cores or 'any'}, the client on core {arguments.client_cores or 'any'}; "
        f"{arguments.seconds:g} s for each number of clients after one second that is not counted; {arguments.rounds} "
        "rounds, in each every server is started anew, one after the other.",
        "The usual app and the thread pool run torch on one thread; LitServe, BentoML and Ray Serve the bundle's fp32 "
        "network in ONNX Runtime on one thread, with the same quick decoding. Ratios are of one round each.",
        f"fp32: {found.engines.get('fp32', '')}. slim: {found.engines.get('slim', '')}; {slimmed}.",
        f"Peers: {', '.join(there)}.",
    ]
    if found.client_cores:
        said.append(f"The client took at most {max(found.client_cores):.2f} of its core.")
    return said + [f"{name} was not measured: {reason}" for name, reason in found.absent.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slim-bundle", type=Path, help="bundle that medrail slim made of a ResNet-18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--clients", type=lambda text: tuple(map(int, text.split(","))), default=CLIENTS)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="names of contenders")
    parser.add_argument("--keep", type=Path, help="folder for the network and images, kept and used again")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "peers")
    two = (os.cpu_count() or 1) > 1
    parser.add_argument("--server-cores", default="0" if two else "")
    parser.add_argument("--client-cores", default="1" if two else "")
    parser.add_argument("--dry", action="store_true", help="write no results file")
    parser.add_argument("--prepare", action="store_true", help="only make what --keep and --peers hold")
    arguments = parser.parse_args()
    if arguments.prepare and not arguments.keep:
        parser.error("--prepare without --keep")
    with tempfile.TemporaryDirectory(prefix="medrail-serving-") as temporary:
        folder = arguments.keep or Path(temporary)
        images = material.make_images(folder)
        fp32 = material.make_bundle(folder)
        slim, slimmed = arguments.slim_bundle, f"the bundle {arguments.slim_bundle}"
        if slim is None:
            slim, chosen = material.make_slimmed(folder)
            wide = f"a margin of {material.MARGIN}, since it is the speed that is wanted"
            slimmed = f"chosen by medrail slim on the benchmark's own small set with {wide}: {chosen}"
        if arguments.prepare:
            peers.make_all(arguments.peers)
            return
        place = Place(arguments.peers, images, fp32, slim.resolve(), material.make_weights(folder))
        found = measured(place, arguments)
        result = list(measures(found, arguments.clients))
        said = notes(found, place, arguments, slimmed)
    if arguments.dry:
        for one in result:
            print(f"{one.name}: {one.value} {one.unit} [{one.low}, {one.high}]")
        print("\n".join(said))
    else:
        record.write("serving", result, said)


if __name__ == "__main__":
    main()
