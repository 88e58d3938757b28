"""What a worker with nothing to do compiles ahead; late in the line, when the kernels are there."""

from __future__ import annotations

from server.warming import rehearse_fit


def test_what_a_worker_rehearses_is_a_whole_fit() -> None:
    heard: list[float] = []
    rehearse_fit(lambda fraction, label: heard.append(fraction))
    assert heard[-1] == 1.0
