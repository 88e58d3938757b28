"""What stands in an optional package is refused by name where the package is absent, before any work."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from bayes_pricing.baselines.suite import OPTIONAL, build_estimator
from bayes_pricing.cli.main import exit_code
from bayes_pricing.errors import SpecError
from bayes_pricing.tracking import check_store

EXTRA = {"xgboost": "boosting", "lightgbm": "boosting", "doubleml": "causal"}


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_estimator_without_its_package_names_the_extra(name: str) -> None:
    if find_spec(name) is not None:
        assert build_estimator(name, seed=1) is not None
        return
    with pytest.raises(SpecError, match=rf"{name} is not installed: pip install 'bayes-pricing\[{EXTRA[name]}\]'"):
        build_estimator(name, seed=1)


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="MLflow is installed")
def test_tracking_without_its_package_is_refused_before_sales_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SpecError, match=r"mlflow is not installed: pip install 'bayes-pricing\[mlflow\]'"):
        check_store("sqlite:///runs.db")
    assert exit_code(["compare", "--sales", str(tmp_path / "none.csv"), "--track", "sqlite:///runs.db"]) == 2
    assert "pip install 'bayes-pricing[mlflow]'" in capsys.readouterr().err
    assert exit_code(["track", "--model-dir", str(tmp_path), "--to", "sqlite:///runs.db"]) == 2
