"""The shell's frame: finds the commands, turns errors into exit codes, keeps standard output for answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

import cyclopts

from bayes_pricing.cli.check import check
from bayes_pricing.cli.compare import compare
from bayes_pricing.cli.explain import explain
from bayes_pricing.cli.fit import fit
from bayes_pricing.cli.output import DONE, FAILED, REFUSED, WRONG_USE, Answer, emit_json, say
from bayes_pricing.cli.plan_test import plan_test
from bayes_pricing.cli.read_test import read_test
from bayes_pricing.cli.recommend import recommend
from bayes_pricing.cli.report import report
from bayes_pricing.cli.track import track
from bayes_pricing.errors import PanelError, PricingError, Refusal, SpecError

COMMANDS = (check, fit, compare, recommend, explain, plan_test, read_test, report, track)
GROUP = "bayes_pricing.commands"
CLOSED_PIPE = 141  # 128 + SIGPIPE


def build_app() -> cyclopts.App:
    """The shell application with the core's commands and those that other packages add by entry point."""
    app = cyclopts.App(
        name="bayes-pricing",
        help="Price elasticities with honest uncertainty, prices under risk limits, and the reasons for them.",
        help_format="plaintext",
        default_parameter=cyclopts.Parameter(negative=()),
    )
    for command in COMMANDS:
        app.command(command)
    for entry in entry_points(group=GROUP):
        app.command(entry.load(), name=entry.name)
    return app


def run(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit code.

    Whoever reads the answer may stop reading, as ``head`` does: the process then ends quietly, with the exit code that
    the shell gives to a program ended by a closed pipe.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = exit_code(words)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        code = CLOSED_PIPE
    sys.exit(code)


def exit_code(words: list[str]) -> int:
    """Run one command: 0 done, 1 failed, 2 wrong use or refused input, 3 refused for statistical reasons."""
    as_json = "--json" in words
    app = build_app()
    try:
        answer = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except Refusal as refusal:
        _report(as_json, "refused", refusal, findings=refusal.findings)
        return REFUSED
    except PanelError as error:
        _report(as_json, "error", error, problems=error.problems)
        return WRONG_USE
    except (SpecError, cyclopts.CycloptsError) as error:
        _report(as_json, "error", error)
        return WRONG_USE
    except BrokenPipeError:
        raise
    except (PricingError, OSError, MemoryError) as error:
        _report(as_json, "failed", error)
        return FAILED
    except KeyboardInterrupt:
        say("Stopped. Nothing was saved.")
        return FAILED
    if isinstance(answer, Answer):
        return _deliver(answer, as_json)
    return DONE


def _deliver(answer: Answer, as_json: bool) -> int:
    if as_json:
        emit_json(answer.document)
    else:
        print(answer.text)
    return answer.exit_code


def _report(as_json: bool, status: str, error: BaseException, **details: object) -> None:
    say(str(error) or type(error).__name__)
    if as_json:
        emit_json({"status": status, "message": str(error), **details})
