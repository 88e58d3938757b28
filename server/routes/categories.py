"""Categories: how strongly they react to price, and how they do."""

from __future__ import annotations

from server.operations import Ask, Operation, Reply, reply
from server.schemas import ModelQuery


async def list_categories(ask: Ask[ModelQuery, None]) -> Reply:
    """Every unit of every level above the items: elasticity with its interval, sales today, what the decision adds."""
    about = (await ask.service.served(ask.query.model)).model
    elasticities = {(row["level"], row["name"]): row for row in about.about["elasticities"]}
    rows = [
        {**row, "own_price_elasticity": elasticities.get((row["level"], row["name"]))} for row in about.about["groups"]
    ]
    population = elasticities["population", "population"]
    return reply({"model": about.id, "population": population, "categories": rows})


OPERATIONS = (
    Operation(
        method="GET", path="/v1/categories", handler=list_categories, query=ModelQuery, answer="CategoriesAnswer",
        scope="models:read", problems=(404,),
    ),
)  # fmt: skip
