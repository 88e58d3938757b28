from __future__ import annotations

import pytest

from tests.support import require


def test_what_is_absent_skips_or_fails_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BAYES_PRICING_REQUIRE_ALL", raising=False)
    require(present=True, reason="never seen")
    with pytest.raises(pytest.skip.Exception, match="no Chromium"):
        require(present=False, reason="no Chromium")
    monkeypatch.setenv("BAYES_PRICING_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="no Chromium"):
        require(present=False, reason="no Chromium")
