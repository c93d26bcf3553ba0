"""How the command line draws: progress bars and errors to stderr, results to stdout."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from medrail.stages import MakeProgress, StageResult
    from medrail.types import Progress

_MANY = 10  # warnings shown before "and N more"


class Console:
    """One command's output. With ``as_json`` nothing but one JSON object reaches stdout; stages are told on stderr."""

    def __init__(self, *, as_json: bool = False) -> None:
        from rich.console import Console as RichConsole

        for stream in (sys.stdout, sys.stderr):
            # A redirected stream may not know our marks (cp1252, ASCII): better a "?" than no output.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        self.as_json = as_json
        self.err = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self.out = self.err if as_json else RichConsole(highlight=False, soft_wrap=True)

    def json(self, value: Mapping[str, Any]) -> None:
        """The one object of ``--json``."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")

    def line(self, text: str = "") -> None:
        self.out.print(text, markup=False)

    def stage(self, result: StageResult) -> None:
        """One stage: a line, a small table, the files, the warnings."""
        from rich.markup import escape

        good, bad = ("✓", "✗") if self._can("✓✗") else ("ok", "FAILED")
        warned = result.warnings or result.stops
        mark = f"[red]{bad}[/]" if result.failed else "[yellow]![/]" if warned else f"[green]{good}[/]"
        when = "up to date" if result.up_to_date else f"{result.seconds:.1f} s"
        self.out.print(f"{mark} [bold]{result.stage:<9}[/] {escape(result.summary)}  [dim]({when})[/]")
        self.table(result.facts)
        for note in () if result.up_to_date else result.notes:
            self.out.print(f"            [dim]{escape(note)}[/]")
        if result.stops is None:
            self._marked(result.warnings, "[yellow]![/]")
        else:
            where = " and ".join(shown(path) for path in result.files if path.stem == "check")
            rest = f": see {where}" if where else ": -o DIR writes a page with all of them" * (result.stage == "check")
            self._judged("What stops", result.stops, "[bold red]STOP[/]", rest)
            self._judged("To look at", result.warnings, "[yellow]look[/]", rest)
        for path in () if result.up_to_date else result.files:
            self.out.print(f"            [dim]-> {escape(shown(path))}[/]")

    def _judged(self, title: str, lines: Sequence[str], mark: str, rest: str) -> None:
        if lines:
            self.out.print(f"            [bold]{title}:[/]")
            self._marked(lines, mark, rest)

    def _marked(self, lines: Sequence[str], mark: str, rest: str = "") -> None:
        """Lines with a mark before each, which says without colour what they are."""
        from rich.markup import escape

        for line in lines[:_MANY]:
            self.out.print(f"            {mark} {escape(line)}")
        if len(lines) > _MANY:
            self.out.print(f"            {mark} and {len(lines) - _MANY} more{escape(rest)}")

    def _can(self, text: str) -> bool:
        try:
            text.encode(self.out.encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def table(self, rows: tuple[tuple[str, str], ...]) -> None:
        """Names and values in two columns."""
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            self.out.print(f"            {name:<{width}}  {value}", markup=False)

    def grid(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table with a line of names above it; columns that are empty in every row are left out."""
        from rich.cells import cell_len  # some letters are two columns wide

        kept = [index for index in range(len(header)) if any(row[index] for row in rows)]
        lines = [[header[index] for index in kept], *([row[index] for index in kept] for row in rows)]
        widths = [max(cell_len(line[column]) for line in lines) for column in range(len(kept))]
        for number, line in enumerate(lines):
            cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True))
            self.out.print("  ".join(cells).rstrip(), markup=False, style="bold" if number == 0 else None)

    def bullets(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            self.out.print(f"  - {sentence}", markup=False)

    def next_command(self, command: str, path: str | Path = "", sets: Sequence[str] = ()) -> None:
        """What to type next, so that it can be copied: the path quoted for the shell, the overrides kept."""
        from rich.markup import escape

        words = [shlex.quote(str(path))] if str(path) else []
        words += [f"--set {shlex.quote(entry)}" for entry in sets]
        self.out.print(f"\n[bold]Next:[/] {escape(' '.join([typed(command), *words]))}")

    def error(self, text: str) -> None:
        from rich.markup import escape

        self.err.print(f"[bold red]error:[/] {escape(text)}")

    @contextmanager
    def progress(self) -> Iterator[MakeProgress]:
        """Gives what makes a progress bar for a stage; bars vanish when done, and off a terminal they are lines."""
        if not self.err.is_terminal:
            yield lambda title: _Lines(self.err, title)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[note]}"), console=self.err, transient=True) as bars:

            def make(title: str) -> Progress_:
                task = bars.add_task(title, total=None, note="")
                return lambda done, total, note="": bars.update(task, completed=done, total=total, note=note[:120])

            yield make


if TYPE_CHECKING:
    Progress_ = Progress


class _Lines:
    """Progress where there is no terminal: a line at each tenth, so that logs stay short, and one for each remark."""

    def __init__(self, console: RichConsole, title: str) -> None:
        self.console = console
        self.title = title
        self.tenth = 0
        self.done = 0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        tenth = 10 * done // total if total else 0
        remark = bool(note) and done == self.done
        self.done = done
        if tenth > self.tenth or remark:
            self.tenth = tenth
            self.console.print(f"{self.title}: {done}/{total} {note}", markup=False)


def shown(path: Path) -> str:
    """A path as a person would type it here: relative where it is below the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def typed(command: str) -> str:
    """A medrail command as it can be typed here: with the program's path where the shell would not find it."""
    program = Path(sys.argv[0])
    if shutil.which("medrail") or program.name != "medrail":
        return command
    near = os.path.relpath(program)
    found = str(program.absolute()) if near.startswith("..") else near
    return f"{shlex.quote(found)}{command.removeprefix('medrail')}"
