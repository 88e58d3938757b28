"""The retail market: products in stores, promotions, cost shocks, and one trouble per scenario."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.errors import SpecError, StorageError
from simulations.markets.retail_settings import RetailMarketSettings
from simulations.markets.retail_truth import Floats, Integers, RetailMarketTruth

CATEGORY_NAMES = ("bread", "cheese", "coffee", "juice", "milk", "rice", "soap", "tea")
LARGE_PACK_DISCOUNT = 0.3
"""A unit out of a large pack costs this much less."""
LARGE_PACK_APPETITE = 1.8
"""Log units that a period of only large packs would sell more than one of only small ones, at equal prices."""
NOISE_SPREAD = 0.3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RetailMarket:
    """A simulated retail market: the truth, and the sales that a user would see.

    Attributes
    ----------
    truth : RetailMarketTruth
    sales : pl.DataFrame
        One row per item and week, sorted: ``item`` (a product in a store), ``product, category, period, price,
        quantity, cost``, and where the scenario has them ``display, wholesale, sold_out``. Quantities are volumes.

    Examples
    --------
    >>> market = simulate_retail(RetailMarketSettings(), seed=1)
    >>> market.sales.height, market.panel().roles.levels
    (3744, ('product', 'category'))
    """

    truth: RetailMarketTruth
    sales: pl.DataFrame

    def panel(self) -> SalesPanel:
        """The sales with their roles: items in products in categories, and a display as a control."""
        return retail_panel(self.sales)


def retail_panel(sales: pl.DataFrame) -> SalesPanel:
    """Give retail sales their roles: items in products (where there are several stores) in categories, a display."""
    kept = sales.drop("wholesale", "sold_out", strict=False)
    one_store = kept["product"].n_unique() == kept["item"].n_unique()
    roles = ColumnRoles.resolve(
        kept.columns,
        levels=("category",) if one_store else ("product", "category"),
        controls=("display",) if "display" in kept.columns else (),
    )
    return SalesPanel.from_frame(kept, roles)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shelf:
    """What happens on the shelf, dims (week, item)."""

    price: Floats
    cost: Floats
    wholesale: Floats
    shock: Floats
    promoted: Floats
    mix: Floats


def simulate_retail(settings: RetailMarketSettings, seed: int) -> RetailMarket:
    """Draw a market, its prices and its sales.

    Parameters
    ----------
    settings : RetailMarketSettings
        For a scenario by name, :func:`simulations.markets.retail_settings.retail_scenario`.
    seed : int
        The same seed gives the same rows.

    Raises
    ------
    SpecError
        If `seed` is negative.

    Examples
    --------
    >>> from simulations.markets.retail_settings import retail_scenario
    >>> simulate_retail(retail_scenario("stock-outs"), seed=1).sales.columns[-1]
    'sold_out'
    """
    if not seed >= 0:
        raise SpecError(f"seed is {seed}; choose a whole number of at least 0.")
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(4)]
    truth, centre, cost = _draw_truth(settings, seed, streams[0])
    shelf = _draw_shelf(settings, centre, cost, streams[1])
    truth = _with_prices(truth, shelf)
    units = np.exp(_log_units(truth, shelf) + _noise(truth, shelf, streams[2]))
    return RetailMarket(truth=truth, sales=_sales(truth, shelf, units, streams[3]))


def _draw_truth(
    settings: RetailMarketSettings, seed: int, rng: np.random.Generator
) -> tuple[RetailMarketTruth, Floats, Floats]:
    """Truth without prices, and each item's central price and cost in currency."""
    categories = _category_names(settings.categories)
    width = len(str(settings.products))
    products = tuple(f"{name}-{n + 1:0{width}d}" for name in categories for n in range(settings.products))
    stores = [f"store-{n + 1:0{len(str(settings.stores))}d}" for n in range(settings.stores)]
    product = np.repeat(np.arange(len(products)), settings.stores).astype(np.int64)
    category = product // settings.products
    store = np.tile(np.arange(settings.stores), len(products)).astype(np.int64)
    category_mean = rng.normal(settings.elasticity_mean, settings.between_categories, settings.categories)
    product_mean = rng.normal(np.repeat(category_mean, settings.products), settings.between_products)
    elasticity = rng.normal(product_mean[product], settings.between_stores)
    cost = np.exp(rng.normal(0.7, 0.4, len(products)))[product]
    markup = category_mean / (1 + category_mean)  # what the trade knows: the category's usual markup, roughly
    centre = cost * np.clip(markup[category], 1.2, 3.0) * np.exp(rng.normal(0, 0.08, len(products)))[product]
    log_units = rng.normal(4.0, 0.7, len(products))[product] + rng.normal(0, 0.4, settings.stores)[store]
    noise = settings.noise_sd * np.exp(rng.normal(0, NOISE_SPREAD, len(products)))[product]
    none = np.zeros(settings.units)
    truth = RetailMarketTruth(
        settings=settings,
        seed=seed,
        items=tuple(f"{products[p]} @ {stores[s]}" for p, s in zip(product, store, strict=True)),
        products=products,
        categories=categories,
        product=product,
        category=category,
        log_units=log_units,
        elasticity=elasticity,
        cross=_draw_cross(settings, product, category, store, rng),
        weekly_drift=np.full(settings.units, settings.drift / settings.weeks),
        noise_sd=np.sqrt(noise**2 + settings.demand_shock_sd**2),
        current_price=none,
        unit_cost=none,
        lowest_price=none,
        highest_price=none,
        product_mean=product_mean,
        category_mean=category_mean,
    )
    return truth, centre, cost


def _category_names(count: int) -> tuple[str, ...]:
    rounds = -(-count // len(CATEGORY_NAMES))
    names = CATEGORY_NAMES if rounds == 1 else tuple(f"{name}{n + 1}" for name in CATEGORY_NAMES for n in range(rounds))
    return tuple(sorted(names[:count]))


def _draw_cross(
    settings: RetailMarketSettings, product: Integers, category: Integers, store: Integers, rng: np.random.Generator
) -> Floats:
    """Cross-price elasticities of products of one category in one store."""
    if settings.cross_elasticity == 0:
        return np.zeros((settings.units, settings.units))
    between = rng.uniform(0.3, 1.7, (product.max() + 1, product.max() + 1)) * settings.cross_elasticity
    rivals = (category[:, None] == category) & (store[:, None] == store) & (product[:, None] != product)
    return np.where(rivals, between[np.ix_(product, product)], 0.0)


def _draw_shelf(settings: RetailMarketSettings, centre: Floats, cost: Floats, rng: np.random.Generator) -> _Shelf:
    """Costs, demand shocks and posted prices; only `price_response` ties prices to demand."""
    shape = (settings.weeks, settings.units)
    wholesale = _persistent(rng.standard_normal(shape), 0.7) * settings.cost_shock_sd
    shock = rng.standard_normal(shape) * settings.demand_shock_sd
    periods = -(-settings.weeks // settings.weeks_per_price)
    steps = rng.standard_normal((periods, settings.units)) * settings.price_step_sd
    regular = np.repeat(steps, settings.weeks_per_price, axis=0)[: settings.weeks]
    promoted = (rng.random(shape) < settings.promotion_share).astype(np.float64)
    promoted[-1] = 0.0
    cut = promoted * np.log(rng.uniform(0.70, 0.85, shape))
    mix = 0.5 + settings.mix_swing * _persistent(rng.standard_normal(shape), 0.8)
    mix = np.clip(mix, 0.05, 0.95) if settings.mix_swing > 0 else np.zeros(shape)
    log_price = regular + cut + settings.pass_through * wholesale + settings.price_response * shock
    price = centre * np.exp(log_price) * (1 - LARGE_PACK_DISCOUNT * mix)
    return _Shelf(
        price=np.maximum(np.round(price, 2), 0.01),
        cost=np.round(cost * np.exp(wholesale) * (1 - LARGE_PACK_DISCOUNT * mix), 4),
        wholesale=wholesale,
        shock=shock,
        promoted=promoted,
        mix=mix,
    )


def _persistent(innovations: Floats, memory: float) -> Floats:
    """Stationary first-order autoregression with unit variance, dims (week, item)."""
    values = np.empty_like(innovations)
    values[0] = innovations[0]
    for week in range(1, len(innovations)):
        values[week] = memory * values[week - 1] + np.sqrt(1 - memory**2) * innovations[week]
    return values


def _with_prices(truth: RetailMarketTruth, shelf: _Shelf) -> RetailMarketTruth:
    known = {field.name: getattr(truth, field.name) for field in fields(truth)}
    known |= {
        "current_price": shelf.price[-1].copy(),
        "unit_cost": shelf.cost[-1].copy(),
        "lowest_price": shelf.price.min(axis=0),
        "highest_price": shelf.price.max(axis=0),
    }
    return RetailMarketTruth(**known)


def _log_units(truth: RetailMarketTruth, shelf: _Shelf) -> Floats:
    """Log expected units of every past week, displays and mixes as they were, dims (week, item)."""
    pack = 1 - LARGE_PACK_DISCOUNT * shelf.mix
    ratio = np.log(shelf.price / pack) - np.log(truth.current_price / pack[-1])
    weeks_back = np.arange(1 - len(ratio), 1)[:, None]
    own = truth.elasticity + weeks_back * truth.weekly_drift
    display = truth.settings.promotion_lift * shelf.promoted
    mixed = LARGE_PACK_APPETITE * (shelf.mix - shelf.mix[-1])
    units: Floats = truth.log_units + own * ratio + ratio @ truth.cross.T + display + mixed
    return units


def _noise(truth: RetailMarketTruth, shelf: _Shelf, rng: np.random.Generator) -> Floats:
    """Log of what sales are over what is expected, dims (week, item); the mean of its exponential is 1."""
    own = np.sqrt(truth.noise_sd**2 - truth.settings.demand_shock_sd**2)
    noise: Floats = shelf.shock + own * rng.standard_normal(shelf.price.shape) - truth.noise_sd**2 / 2
    return noise


def _sales(truth: RetailMarketTruth, shelf: _Shelf, units: Floats, rng: np.random.Generator) -> pl.DataFrame:
    settings = truth.settings
    weeks = [settings.first_week + timedelta(weeks=week) for week in range(settings.weeks)]
    names = np.array(truth.products, dtype=object)[truth.product]
    extra: dict[str, Floats] = {}
    if settings.promotion_lift > 0:
        extra["display"] = shelf.promoted
    if settings.price_response > 0:
        extra["wholesale"] = shelf.wholesale
    if settings.sold_out_share > 0:
        usual = np.exp(truth.log_units) * np.exp(rng.normal(0, 0.4, units.shape))
        stock = usual * np.quantile(units / usual, 1 - settings.sold_out_share)
        extra["sold_out"] = (units > stock).astype(np.float64)
        units = np.minimum(units, stock)
    columns = {"price": shelf.price, "quantity": units, "cost": shelf.cost, **extra}
    return pl.DataFrame(
        {
            "item": np.repeat(np.array(truth.items, dtype=object), settings.weeks),
            "product": np.repeat(names, settings.weeks),
            "category": np.repeat(np.array(truth.categories, dtype=object)[truth.category], settings.weeks),
            "period": weeks * settings.units,
            **{name: values.T.ravel() for name, values in columns.items()},
        },
        schema_overrides={"item": pl.String, "product": pl.String, "category": pl.String},
    ).sort("item", "period")


def write_retail(market: RetailMarket, out_dir: Path) -> tuple[Path, Path]:
    """Write ``sales.parquet`` and, apart from it, ``truth.json``.

    Raises
    ------
    StorageError
        If the directory holds one of them already.

    Examples
    --------
    >>> import tempfile
    >>> market = simulate_retail(RetailMarketSettings(), seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sales, truth = write_retail(market, Path(folder) / "market")
    ...     pl.read_parquet(sales).equals(market.sales)
    True
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    sales, truth = out_dir / "sales.parquet", out_dir / "truth.json"
    taken = [path.name for path in (sales, truth) if path.exists()]
    if taken:
        raise StorageError(f"{out_dir} holds {', '.join(taken)} already: choose another directory, or remove them.")
    market.sales.write_parquet(sales)
    content = {field.name: getattr(market.truth, field.name) for field in fields(market.truth)}
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in content.items()}
    settings = asdict(market.truth.settings)
    plain["settings"] = settings | {"first_week": market.truth.settings.first_week.isoformat()}
    document = {"format": "retail-market-truth/1"} | plain
    truth.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    return sales, truth
