"""Settings: from the environment, checked once, shown without secrets."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from bayes_pricing.errors import SpecError
from server.settings import Settings


def test_every_field_is_read_from_its_variable() -> None:
    given = {
        "BAYES_PRICING_DATA_DIR": "/srv/prices",
        "BAYES_PRICING_KEYS_REQUIRED": "no",
        "BAYES_PRICING_ALLOWED_HOSTS": "prices.example, localhost",
        "BAYES_PRICING_RATE_PER_SECOND": "12.5",
        "BAYES_PRICING_PORT": "0",
        "PATH": "ignored",
    }
    settings = Settings.from_environment(given)
    assert settings.data_dir == Path("/srv/prices")
    assert settings.database_url == "sqlite:////srv/prices/server.db"
    assert settings.keys_required is False
    assert settings.allowed_hosts == ("prices.example", "localhost")
    assert (settings.rate_per_second, settings.port) == (12.5, 0)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WORKERS", "0", "at least 1"),
        ("WORKERS", "1.5", "whole number"),
        ("KEYS_REQUIRED", "maybe", "yes or no"),
        ("RATE_PER_SECOND", "nan", "above 0"),
        ("LEASE_SECONDS", "-1", "above 0"),
        ("LOG_LEVEL", "loud", "debug, info"),
        ("LOG_SHARE", "2", "between 0 and 1"),
        ("PORT", "70000", "65535"),
    ],
)
def test_nonsense_names_the_variable_and_the_remedy(name: str, value: str, words: str) -> None:
    with pytest.raises(SpecError, match=f"BAYES_PRICING_{name} is .*{words}"):
        Settings.from_environment({f"BAYES_PRICING_{name}": value})


def test_keys_are_off_on_loopback_only() -> None:
    with pytest.raises(SpecError, match="other machines"):
        Settings(keys_required=False, host="0.0.0.0")


def test_table_names_every_setting_and_hides_the_password() -> None:
    table = Settings(database_url="postgresql://me:hidden-word@host/name").table()
    assert [row[0] for row in table] == [f"BAYES_PRICING_{field.name.upper()}" for field in fields(Settings)]
    assert "hidden-word" not in str(table)
    assert all(meaning for _, _, meaning in table)
