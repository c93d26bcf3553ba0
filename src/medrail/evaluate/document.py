"""The frame of a page: one HTML file that holds everything itself and asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
import time
from importlib.resources import files
from typing import Protocol

from medrail import __version__
from medrail.cases.check.page import safe

_SCRIPT = 'if (/^zh/i.test(navigator.language)) document.getElementById("chinese").checked = true;'


class Both(Protocol):
    """A word of the page's table -> HTML in both languages."""

    def __call__(self, word: str, **values: object) -> str: ...


def document(command: str, name: str, body: str, both: Both, footer: str = "") -> str:
    """The whole page; without scripts it only does not choose its language.

    Parameters
    ----------
    command:
        Whose page it is, in the window's title.
    name:
        Of what it is about, not yet escaped.
    body, footer:
        HTML, escaped. The footer begins with ``footer`` and ends with what made the page and when.
    both:
        Knows "title", "language", "disclaimer" and "made".
    """
    script_hash = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
    style = "".join(
        files(room).joinpath("page.css").read_text(encoding="utf-8")
        for room in ("medrail.cases.check", "medrail.evaluate")
    )
    made = both("made", version=__version__, date=time.strftime("%Y-%m-%d %H:%M"))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>medrail {command}: {safe(name)}</title>
<style>{style}</style>
</head>
<body>
<input type="checkbox" id="chinese" aria-label="中文">
<header><h1>{both("title")}</h1><span class="name">{safe(name)}</span>
<label class="language" for="chinese">{both("language")}</label></header>
<main>
<p class="note">{both("disclaimer")}</p>
{body}
</main>
<footer class="note">{footer}<p>{made}</p></footer>
<script>{_SCRIPT}</script>
</body>
</html>
"""
