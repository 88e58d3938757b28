"""Column roles: which column of the user's table plays which part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from bayes_pricing.errors import PanelError, Problem, SpecError

REQUIRED = ("item", "price", "quantity")
SINGLE = (
    "item",
    "region",
    "period",
    "price",
    "quantity",
    "list_price",
    "discount",
    "cost",
    "stock",
    "sold_out",
    "exposure",
    "deflator",
)
"""Roles that one column plays; in the panel's frame that column carries the role's name."""

REPEATED = ("levels", "controls", "shared_controls", "competitor_prices", "instruments", "attributes")
"""Roles that several columns may play; these keep their own names."""

RESERVED = frozenset({"population", "level", "log_price"})
"""Names of coefficients and of the root of the tree: no level or control may carry them."""

ALIASES: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "item": (
            [
                "item_id",
                "sku",
                "sku_id",
                "sku_col",
                "product",
                "product_id",
                "product_ids",
                "product_name",
                "upc",
                "article",
                "article_id",
            ]
        ),
        "region": ["region_id", "region_col", "store", "store_id", "market", "market_id", "market_ids"],
        "period": ["period_col", "date", "week", "week_start", "month", "year", "day"],
        "price": ["prices", "price_col", "unit_price", "price_paid"],
        "quantity": [
            "quantities",
            "quantity_col",
            "qty",
            "units",
            "unit_sales",
            "units_sold",
            "quantity_sold",
            "volume",
            "shares",
        ],
        "list_price": ["regular_price", "base_price", "msrp", "rrp"],
        "discount": ["discount_col", "discount_share", "discount_rate"],
        "cost": ["costs", "unit_cost", "cogs"],
        "stock": ["inventory", "stock_level", "on_hand"],
        "sold_out": ["soldout", "stockout", "stock_out", "out_of_stock"],
        "exposure": ["visits"],
        "category": ["category_name", "product_category"],
    }
)
"""Names of common tables and of peers (pypricing's ``*_col``, PyBLP's plurals) under which a role may be found.

A `deflator` changes what a price means, so it is never guessed from a name such as ``cpi``.
"""

PREFIXES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "controls": ("control_",),
        "competitor_prices": ("competitor_price",),
        "instruments": ("iv_", "demand_instruments"),
    }
)
"""Beginnings of column names that pypricing and PyBLP give a meaning to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRoles:
    """Which column of the source plays which role; ``None`` or ``()`` where nothing plays it.

    Attributes
    ----------
    item, price, quantity : str
        What was sold, at what price (currency per unit), how many units in the period.
    levels : tuple of str
        Nesting levels above the item, inner first, e.g. ``("category", "department")``; they keep their names.
    period : str or None
        When: dates, whole numbers, or ISO text (``2026-01-05``, ``2026-W02``, ``2026-01``, ``2026-Q1``).
    region : str or None
        Store, market or region, where an item has one row per place and period.
    list_price, discount, cost : str or None
        Regular price and unit cost (currency per unit); the discount as the user measures it.
    stock, sold_out, exposure : str or None
        Units in stock; whether the item ran out (0/1); visits or other exposure that scales demand (positive).
    deflator : str or None
        Price index; all money is then expressed in the money of the last period.
    controls, shared_controls : tuple of str
        Other drivers of demand: with an effect that may differ by item, and with one effect for all.
    competitor_prices, instruments : tuple of str
        Prices of substitutes; variables that move the price but not demand.
    attributes : tuple of str
        What an item is (size, brand): constant inside an item, numbers or text; explains its level and elasticity.

    Raises
    ------
    SpecError
        If one column plays two roles that exclude each other, or a name is taken.

    Examples
    --------
    >>> roles = ColumnRoles.resolve(["retailer", "volume", "disp", "price"], item="retailer", controls=("disp",))
    >>> roles.quantity, roles.price, roles.levels, roles.period
    ('volume', 'price', (), None)
    """

    item: str
    price: str
    quantity: str
    levels: tuple[str, ...] = ()
    period: str | None = None
    region: str | None = None
    list_price: str | None = None
    discount: str | None = None
    cost: str | None = None
    stock: str | None = None
    sold_out: str | None = None
    exposure: str | None = None
    deflator: str | None = None
    controls: tuple[str, ...] = field(default=())
    shared_controls: tuple[str, ...] = field(default=())
    competitor_prices: tuple[str, ...] = field(default=())
    instruments: tuple[str, ...] = field(default=())
    attributes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        singles = self.single()
        _refuse_two_roles(singles.items())
        keys = [(role, singles[role]) for role in ("item", "price", "quantity", "period") if role in singles]
        _refuse_two_roles([*keys, *(("level", name) for name in self.levels)])
        for role in REPEATED[1:]:
            _refuse_two_roles([*keys, *((role, name) for name in getattr(self, role))])
        both = set(self.controls) & set(self.shared_controls)
        if both:
            raise SpecError(f"Columns {sorted(both)} are item-level and shared controls; name each once.")
        twice = set(self.attributes) & {*self.controls, *self.shared_controls, *self.competitor_prices}
        if twice:
            raise SpecError(
                f"Columns {sorted(twice)} are attributes, the same in all rows of an item, and controls too."
            )
        for name in self.own_names():
            if name in RESERVED or (name in singles and singles[name] != name):
                raise SpecError(
                    f"Column {name!r} cannot keep its name beside the panel's own {name!r}; rename it in the source."
                )

    def single(self) -> dict[str, str]:
        """Return the roles that one column plays, as {role: column}, in the panel's order."""
        return {role: column for role in SINGLE if (column := getattr(self, role)) is not None}

    def own_names(self) -> tuple[str, ...]:
        """Return the columns that keep their own name in the panel, each once."""
        return tuple(dict.fromkeys(name for role in REPEATED for name in getattr(self, role)))

    def numeric(self) -> tuple[str, ...]:
        """Return those of :meth:`own_names` that must hold numbers."""
        return tuple(name for name in self.own_names() if name not in (*self.levels, *self.attributes))

    def columns(self) -> tuple[str, ...]:
        """Return every column of the source that plays a role, each once.

        Examples
        --------
        >>> ColumnRoles(item="sku", price="p", quantity="q", levels=("family",)).columns()
        ('sku', 'p', 'q', 'family')
        """
        return tuple(dict.fromkeys((*self.single().values(), *self.own_names())))

    @classmethod
    def resolve(
        cls,
        columns: Sequence[str],
        *,
        item: str | None = None,
        price: str | None = None,
        quantity: str | None = None,
        levels: Sequence[str] | None = None,
        period: str | None = None,
        region: str | None = None,
        list_price: str | None = None,
        discount: str | None = None,
        cost: str | None = None,
        stock: str | None = None,
        sold_out: str | None = None,
        exposure: str | None = None,
        deflator: str | None = None,
        controls: Sequence[str] | None = None,
        shared_controls: Sequence[str] | None = None,
        competitor_prices: Sequence[str] | None = None,
        instruments: Sequence[str] | None = None,
        attributes: Sequence[str] = (),
    ) -> ColumnRoles:
        """Fill the roles not named from columns that carry the role's own name or a known alias.

        An explicit role always wins and is taken as it is (:meth:`SalesPanel.from_frame` says whether its column
        exists). The role's own name wins over aliases; a column that already plays a role is not taken twice;
        `levels` left out takes ``category``; an empty tuple says there is none.

        Raises
        ------
        PanelError
            If the item, price or quantity cannot be found, or two columns could play one role.

        Examples
        --------
        >>> ColumnRoles.resolve(["sku", "week", "price", "units"]).period
        'week'
        """
        given = {
            "item": item,
            "region": region,
            "period": period,
            "price": price,
            "quantity": quantity,
            "list_price": list_price,
            "discount": discount,
            "cost": cost,
            "stock": stock,
            "sold_out": sold_out,
            "exposure": exposure,
            "deflator": deflator,
        }
        repeated = {
            "levels": levels,
            "controls": controls,
            "shared_controls": shared_controls,
            "competitor_prices": competitor_prices,
            "instruments": instruments,
            "attributes": attributes,
        }
        taken = {name for name in given.values() if name} | {
            name for names in repeated.values() for name in names or ()
        }
        free = [name for name in columns if name not in taken]
        problems: list[Problem] = []
        single = {role: name or _find(role, free, columns, problems) for role, name in given.items()}
        if levels is None:
            category = _find("category", free, columns, problems)
            repeated["levels"] = () if category is None else (category,)
        for role, prefixes in PREFIXES.items():
            if repeated[role] is None:
                repeated[role] = [name for name in free if _plain(name).startswith(prefixes)]
        if problems:
            raise PanelError(problems)
        return cls(
            item=single["item"] or "",
            price=single["price"] or "",
            quantity=single["quantity"] or "",
            levels=tuple(repeated["levels"] or ()),
            period=single["period"],
            region=single["region"],
            list_price=single["list_price"],
            discount=single["discount"],
            cost=single["cost"],
            stock=single["stock"],
            sold_out=single["sold_out"],
            exposure=single["exposure"],
            deflator=single["deflator"],
            controls=tuple(repeated["controls"] or ()),
            shared_controls=tuple(repeated["shared_controls"] or ()),
            competitor_prices=tuple(repeated["competitor_prices"] or ()),
            instruments=tuple(repeated["instruments"] or ()),
            attributes=tuple(attributes),
        )


def _plain(name: str) -> str:
    """Column name without case, spaces and dashes: ``Unit Sales`` and ``unit-sales`` are ``unit_sales``."""
    return name.strip().casefold().replace(" ", "_").replace("-", "_").replace(".", "_")


def _find(role: str, free: Iterable[str], columns: Sequence[str], problems: list[Problem]) -> str | None:
    """Return the one free column that can play `role`; two, or none where one is needed, go to `problems`."""
    flag = role.replace("_", "-")
    candidates = list(free)
    for names in ((role,), ALIASES.get(role, ())):
        found = [column for column in candidates if _plain(column) in names]
        if len(found) == 1:
            return found[0]
        if found:
            problems.append(
                Problem(
                    code="ambiguous_column",
                    count=0,
                    message=f"columns {found} could each be the {role}",
                    remedy=f"say which with --{flag}",
                )
            )
            return None
    if role in REQUIRED:
        problems.append(
            Problem(
                code="unknown_column",
                count=0,
                message=f"no column for the role {role!r} among {list(columns)}",
                remedy=f"name it with --{flag}",
            )
        )
    return None


def _refuse_two_roles(pairs: Iterable[tuple[str, str]]) -> None:
    """Raise unless every column of (role, column) pairs appears once."""
    seen: dict[str, str] = {}
    for role, column in pairs:
        if column in seen:
            raise SpecError(f"Column {column!r} plays two roles, {seen[column]} and {role}; name each column once.")
        seen[column] = role
