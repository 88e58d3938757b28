"""Tests of optional packages are collected only in the environment that `python -m tests.extras` makes for each."""

from __future__ import annotations

import os

collect_ignore_glob = [] if "BAYES_PRICING_EXTRA" in os.environ else ["*.py"]
