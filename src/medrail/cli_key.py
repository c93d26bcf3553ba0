"""The verb of the service's keys: add, list, revoke."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medrail.console import Console

OK = 0


def key(arguments: argparse.Namespace, console: Console) -> int:
    return _SUBVERBS[arguments.subverb](arguments, console)


def _file(arguments: argparse.Namespace) -> Path:
    from medrail.serve.keys import default_file

    return Path(arguments.keys) if arguments.keys else default_file()


def _add(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.console import shown
    from medrail.serve.keys import add_key

    path = _file(arguments)
    made, text = add_key(path, arguments.name, arguments.scope)
    console.line(f"The key {made.id} ({made.name}, {made.scope}). It is shown only now; its hash is in {shown(path)}\n")
    console.line(text)
    if console.as_json:
        console.json({"id": made.id, "name": made.name, "scope": made.scope, "key": text, "file": str(path)})
    return OK


def _list(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.console import shown
    from medrail.serve.keys import read_keys

    path = _file(arguments)
    keys = read_keys(path)
    valid = sum(not each.revoked for each in keys)
    console.line(f"{valid} valid, {len(keys) - valid} revoked, in {shown(path)}")
    console.table(
        tuple(
            (
                each.id,
                f"{each.name}, {each.scope}, since {each.created}" + f", revoked {each.revoked}" * bool(each.revoked),
            )
            for each in keys
        )
    )
    if console.as_json:
        fields = ("id", "name", "scope", "created", "revoked")
        console.json({"file": str(path), "keys": [{name: getattr(each, name) for name in fields} for each in keys]})
    return OK


def _revoke(arguments: argparse.Namespace, console: Console) -> int:
    from medrail.serve.keys import revoke_key

    path = _file(arguments)
    ended = revoke_key(path, arguments.key)
    console.line(f"The key {ended.id} ({ended.name}) is not valid any more, also for services that are running")
    if console.as_json:
        console.json({"id": ended.id, "name": ended.name, "revoked": ended.revoked, "file": str(path)})
    return OK


_SUBVERBS: dict[str, Callable[[argparse.Namespace, Console], int]] = {"add": _add, "list": _list, "revoke": _revoke}
