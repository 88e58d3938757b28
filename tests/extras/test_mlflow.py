"""Tracking in MLflow: what the shell tracks is in the store, and a tracked model can be loaded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bayes_pricing.cli.main import exit_code
from bayes_pricing.errors import SpecError
from bayes_pricing.registry import load_fit
from bayes_pricing.tracking import EXPERIMENT, MODEL, check_store
from simulations.markets.retail import simulate_retail
from simulations.markets.retail_settings import RetailMarketSettings

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sales") / "sales.parquet"
    simulate_retail(RetailMarketSettings(categories=2, stores=1, weeks=40), seed=1).sales.drop("product").write_parquet(
        path
    )
    return path


def client(store: str) -> Any:
    return mlflow.MlflowClient(tracking_uri=store, registry_uri=store)


def answer(capsys: pytest.CaptureFixture[str], words: list[str]) -> Any:
    code = exit_code([*words, "--json"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out)


def test_a_tracked_model_is_a_registered_version_that_loads_again(
    sales: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, model = f"sqlite:///{tmp_path}/runs.db", tmp_path / "model"
    fitted = answer(capsys, ["fit", "--sales", str(sales), "--out", str(model)])
    words = ["track", "--model-dir", str(model), "--to", store]
    first = answer(capsys, [*words, "--alias", "champion"])
    assert (first["model"], first["version"], first["alias"]) == (fitted["model"], "1", "champion")
    kept = client(store)
    run = kept.get_run(first["run"])
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == fitted["model"]
    assert run.data.params["data_hash"] == load_fit(model).summary.data_hash
    assert run.data.metrics["max_rhat"] == pytest.approx(fitted["diagnostics"]["max_rhat"])
    assert run.data.metrics["divergences"] == 0
    version = kept.get_model_version_by_alias(MODEL, "champion")
    assert (str(version.version), version.run_id, version.tags["model"]) == ("1", first["run"], fitted["model"])
    copy = kept.download_artifacts(first["run"], "model", str(tmp_path))
    assert load_fit(Path(copy)).posterior.id == fitted["model"]
    table = pl.read_json(kept.download_artifacts(first["run"], "elasticities.json", str(tmp_path)))
    assert table.height == len(fitted["elasticities"])
    # The next version takes the alias over; artefacts stay beside the database.
    second = answer(capsys, [*words, "--alias", "champion"])
    assert second["version"] == "2"
    assert str(kept.get_model_version_by_alias(MODEL, "champion").version) == "2"
    assert run.info.artifact_uri.startswith((tmp_path / "runs-artefacts").as_uri())


def test_a_tracked_comparison_has_a_run_per_estimator(
    sales: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"sqlite:///{tmp_path}/runs.db"
    words = ["compare", "--sales", str(sales), "--estimator", "item_effects", "--estimator", "separate"]
    compared = answer(capsys, [*words, "--track", store])
    kept = client(store)
    experiment = kept.get_experiment_by_name(EXPERIMENT).experiment_id
    parent = compared["tracked_run"]
    children = kept.search_runs([experiment], filter_string=f"tags.mlflow.parentRunId = '{parent}'")
    shown = {row["estimator"]: row for row in compared["estimators"]}
    assert {run.info.run_name for run in children} == set(shown)
    for run in children:
        for name in ("wape", "crps", "elasticity", "lower"):
            assert run.data.metrics[name] == pytest.approx(shown[run.info.run_name][name]), name
    listed = {file.path for file in kept.list_artifacts(parent)}
    assert listed == {"estimators.json", "elasticities.json", "importance.json", "partial_dependence.json"}
    assert kept.get_run(parent).data.params["seed"] == "1"


def test_a_store_that_cannot_be_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="neither sqlite:///FILE nor"):
        check_store("ftp://somewhere")
    missing = f"sqlite:///{tmp_path}/no/such/folder/runs.db"
    assert exit_code(["compare", "--sales", "sales.csv", "--track", "runs.db"]) == 2
    assert exit_code(["track", "--model-dir", str(tmp_path / "none"), "--to", missing]) == 1
