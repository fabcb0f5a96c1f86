"""Records and settings to start a test from; each call says only what matters to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from hypothesis import strategies as st

from connector.records import CustomerIdKind, Mirror, User
from connector.settings import Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
NOW_SECONDS = 1_767_323_045

# Memberships in the two segments below: in the whitelisted one, only in the other, in none.
VIP, OTHER, NOWHERE = "10", "01", "00"


def settings(*, api: str = "batch", **people: Any) -> Settings:
    """Settings with the segments VIP (whitelisted) and Others; keywords are keys of `[people]`. People are deleted
    only where a test says so."""
    return Settings.model_validate(
        {
            "customerio": {"api": api},
            "people": {"segments": ["VIP"], **people},
            "segments": {"VIP": {"everyone": True}, "Others": {"everyone": True}},
        }
    )


def user(
    *,
    external_id: str | None = "42",
    email: str | None = "ann@example.com",
    attributes: dict[str, Any] | None = None,
    known_by: str = "own",
    created_at: datetime | None = None,
    opted_out: bool = False,
    opt_changed_at: datetime | None = None,
    merged_into: str | None = None,
    opted_by: Literal["own", "customerio"] = "customerio",
) -> User:
    return User(
        id="01HUSER",
        external_id=external_id,
        email=email,
        attributes=attributes or {},
        known_by=known_by,
        created_at=created_at,
        opted_out=opted_out,
        opt_changed_at=opt_changed_at,
        version=1,
        merged_into=merged_into,
        opted_by=opted_by,
    )


def mirror(
    attributes: dict[str, Any],
    *,
    customer_id: str = "42",
    id_kind: CustomerIdKind = "id",
    sent_ts: int = 1_700_000_000,
    created_at: datetime = datetime(2025, 6, 1, tzinfo=UTC),
    left_at: datetime | None = None,
    deleted_at: datetime | None = None,
    suppressed_at: datetime | None = None,
    opt_sent_at: datetime | None = None,
    unsure: str = "",
) -> Mirror:
    return Mirror(
        user_id="01HUSER",
        customer_id=customer_id,
        id_kind=id_kind,
        attributes=attributes,
        segment_bits=VIP,
        mapping_hash="hash",
        version=1,
        sent_ts=sent_ts,
        created_at=created_at,
        synced_at=created_at,
        release=None,
        left_at=left_at,
        deleted_at=deleted_at,
        suppressed_at=suppressed_at,
        opt_sent_at=opt_sent_at,
        unsure=unsure,
    )


# What JSON can hold: no NaN, no infinity, no lone surrogates.
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.just(10**30)
    | text
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
