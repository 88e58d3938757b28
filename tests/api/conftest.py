"""The application with a small published market, in process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from server.app import create_app
from tests.api.running import Shop, market, open_shop


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return open_shop(tmp_path_factory.mktemp("shop"), market())


@pytest.fixture(scope="package")
def client(shop: Shop) -> Iterator[TestClient[Litestar]]:
    """Asks with the key that may do everything."""
    with TestClient(create_app(shop.settings), raise_server_exceptions=False) as client:
        client.headers.update(shop.key)
        yield client
