"""What a command hands back, and where it goes: answers to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

DONE, FAILED, WRONG_USE, REFUSED = 0, 1, 2, 3
"""Exit codes: done, failed, wrong use or refused input, refused for statistical reasons."""

ProgressCallback = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A command's answer, once for machines and once for people."""

    document: Mapping[str, object]
    text: str
    exit_code: int = DONE


def say(message: str) -> None:
    """Tell the person something on standard error."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(message)


def emit_json(document: Mapping[str, object]) -> None:
    """Write one JSON document to standard output; a number that is not finite goes out as null."""
    encoded = msgspec.json.encode(document, enc_hook=_plain)
    sys.stdout.write(msgspec.json.format(encoded, indent=2).decode() + "\n")
    sys.stdout.flush()


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """A bar on standard error, driven by calls of ``(fraction, label)``.

    Examples
    --------
    >>> with progress_bar() as report:
    ...     report(0.5, "sampling")
    """
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def report(fraction: float, label: str) -> None:
            bar.update(task, completed=fraction, description=label)

        yield report


def _plain(value: object) -> object:
    """Dates, NumPy scalars and the like as plain values."""
    for method in ("isoformat", "item"):
        convert = getattr(value, method, None)
        if convert is not None:
            return convert()
    return str(value)
