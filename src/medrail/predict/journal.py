"""predictions.jsonl: what is done, a line an image, so that a second call does only what is missing or has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from medrail.predict.answer import Answer
from medrail.predict.inputs import Input
from medrail.workspace import keep_text

FORMAT = 1


@dataclass(frozen=True)
class Done:
    """A line: what was asked, as a key that changes whenever the answer may, and what was found."""

    name: str
    key: str
    files: Mapping[str, int]
    found: Mapping[str, Any]

    def text(self) -> str:
        values = {"format": FORMAT, "name": self.name, "key": self.key, "files": dict(self.files), **self.found}
        return json.dumps(values, allow_nan=False) + "\n"  # ASCII: names of files may be no text

    @staticmethod
    def of_line(line: str) -> Done | None:
        """None for a line that is not whole, as a kill leaves the last one, or of another format."""
        try:
            values = json.loads(line)
            if values.pop("format") != FORMAT:
                return None
            files = {str(name): int(size) for name, size in values.pop("files").items()}
            return Done(str(values.pop("name")), str(values.pop("key")), files, values)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


class Journal:
    """``with Journal(folder) as journal:`` knows what earlier calls wrote into a folder, and takes what is written now.

    A line is added when all files of an image are in their place. Of two lines of one name the later one counts; what
    does not count any more is left out when the journal is opened.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "predictions.jsonl"
        self._done: dict[str, Done] = {}
        self._file: TextIO | None = None

    def __enter__(self) -> Journal:
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        known = (Done.of_line(line) for line in text.splitlines())
        self._done = {done.name: done for done in known if done}
        keep_text(self._path, "".join(done.text() for done in self._done.values()))
        self._file = self._path.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def recall(self, one: Input, name: str, key: str) -> Answer | None:
        """The answer to the same question, where all of its files are still there, as long as they were."""
        done = self._done.get(name)
        if done is None or done.key != key:
            return None
        files = tuple(self._folder / file for file in done.files)
        try:
            if any(path.stat().st_size != size for path, size in zip(files, done.files.values(), strict=True)):
                return None
            return Answer.from_dict(done.found, one, name, files)
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def add(self, answer: Answer, key: str) -> None:
        """Remember an answer whose files are written."""
        assert self._file is not None  # noqa: S101 - within ``with``
        files = {path.name: path.stat().st_size for path in answer.files}
        done = Done(answer.name, key, files, {"input": str(answer.input), **answer.to_dict()})
        self._file.write(done.text())
        self._file.flush()
        self._done[answer.name] = done

    def forget(self, name: str) -> None:
        """Remove the files of an earlier answer of this name: they belong to another image or another question."""
        done = self._done.pop(name, None)
        for file in done.files if done else ():
            if Path(file).name == file:
                (self._folder / file).unlink(missing_ok=True)
