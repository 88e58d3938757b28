"""Price tests: planned by what they are worth, monitored without false alarms, read out with intervals."""

from __future__ import annotations

from typing import Any

from server.operations import Ask, Operation, Reply, in_thread, reply
from server.schemas import ModelQuery, MonitorRequest, NoQuery, PlanRequest, ReadOutBody


async def plan_experiment(ask: Ask[ModelQuery, PlanRequest]) -> Reply:
    """Which sizes earn most, with power, assurance and the value of information beside them."""
    from server.trials import plan_from_belief, plan_from_model

    if ask.body.item is None:
        return reply(await in_thread(plan_from_belief, ask.body))
    served = await ask.service.served(ask.query.model)
    return reply(await in_thread(plan_from_model, served.model, ask.body))


async def monitor_experiment(ask: Ask[NoQuery, MonitorRequest]) -> Reply:
    """Anytime-valid intervals at every look, when zero was first left, and what a wrong decision would cost."""
    from server.trials import monitor

    return reply(await in_thread(monitor, ask.body))


async def read_out_experiment(ask: Ask[NoQuery, ReadOutBody]) -> Reply:
    """Effects of a finished test with intervals, whether it was run as promised, change or keep."""
    from server.trials import read_out_rows

    answer: dict[str, Any] = await in_thread(read_out_rows, ask.body)
    return reply(answer)


OPERATIONS = (
    Operation(
        method="POST", path="/v1/experiments/plan", handler=plan_experiment, query=ModelQuery, body=PlanRequest,
        answer="PlanAnswer", scope="experiments:plan", problems=(404, 422),
        example={"belief": {"prior_mean": 0.68, "prior_sd": 0.03, "noise_sd": 0.4665, "population": 100000}},
    ),
    Operation(
        method="POST", path="/v1/experiments/monitor", handler=monitor_experiment, body=MonitorRequest,
        answer="MonitorAnswer", scope="experiments:plan", problems=(422,),
        example={"planned_units": 4000, "looks": [{"effect": 0.4, "standard_error": 0.2, "units": 1000}]},
    ),
    Operation(
        method="POST", path="/v1/experiments/read-out", handler=read_out_experiment, body=ReadOutBody,
        answer="ReadOutAnswer", scope="experiments:plan", problems=(422,),
        example={
            "columns": {"arm": ["A", "B", "A", "B"], "profit": [1.0, 2.0, 1.5, 2.5]}, "arm": "arm",
            "control_arm": "A", "outcomes": ["profit"],
        },
    ),
)  # fmt: skip
