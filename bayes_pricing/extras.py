"""Packages that only some need: imported when asked for, and missed with the words that mend it."""

from __future__ import annotations

import importlib
from types import ModuleType

from bayes_pricing.errors import SpecError


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module that an optional extra brings.

    Parameters
    ----------
    module : str
        Name to import.
    extra : str
        Of the extras in ``pyproject.toml``.

    Raises
    ------
    SpecError
        If the module is not installed; the message names the command that installs it.

    Examples
    --------
    >>> import_extra("json", "boosting").__name__
    'json'
    >>> import_extra("no_such_module", "boosting")
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.SpecError: The package no_such_module is not installed: pip install 'bayes-pricing[boosting]'.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise SpecError(f"The package {package} is not installed: pip install 'bayes-pricing[{extra}]'.") from error
