"""Reading a message of the Segment spec, as the inbox holds it: bytes in, a `Message` or an `Unread` out.

The inbox holds a JSON object that `core.tracking_request` made: the sender's `message` as it came (`unreadable`, in
base64, when it isn't JSON), and what was said beside it: `type` by the path, the batch's `sentAt` and `context`,
`public` for a browser's key, `imported` for history. What can't be taken has one reason word: those of
`core.tracking_document`, and

    wrong_shape     the message, its traits, properties, context or context.traits is something else than an object
    no_type         neither the path nor the message says what it is
    unknown_type    not identify, track, page, screen, group or alias
    bad_identifier  userId, anonymousId, previousId or groupId is neither text nor a number, or over 1,000 bytes
    no_identifier   nobody is named: no userId, no anonymousId, no address
    no_group_id     a group without groupId
    no_event_name   a track without an event, or its event is no text
    long_name       the name of an event, page or screen is over 1,000 bytes
    bad_timestamp   timestamp or originalTimestamp is given, and no time that can be

What is odd and no reason to refuse is named in `context.flags`: `nul_replaced`, `bad_email`, `bad_created_at`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeGuard, get_args

import msgspec

from connector.core import text, times, tracking_document
from connector.records import Message, MessageType, Unread

_MAX_IDENTIFIER_BYTES = 1000  # an index entry of PostgreSQL ends at 2,704
_MAX_NAME_BYTES = 1000
_TYPES = frozenset(get_args(MessageType))
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,9})?")
_EXTERNAL_ID_TYPES = frozenset({"user_id", "userId", "external_id", "id"})


class _Kept(msgspec.Struct):
    message: msgspec.Raw = msgspec.Raw()
    unreadable: bytes | None = None
    type: str | None = None
    sentAt: Any = None  # noqa: N815 - the spec's name
    context: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    public: bool = False
    imported: bool = False


class _BadError(Exception):
    """Why a message can't be taken; its one argument is the reason word."""


_kept_decoder = msgspec.json.Decoder(_Kept)


def read(source_id: str, body: bytes, received_at: datetime) -> Message | Unread:
    """The message. Who sent no time did it when it was received; a sender's clock is corrected by `sentAt`
    (https://segment.com/docs/connections/spec/common/#timestamps), in history nothing is."""
    try:
        kept = _kept_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Unread("not_json")
    except RecursionError:
        return Unread("too_deep")
    message = tracking_document.read(bytes(kept.message) if kept.unreadable is None else kept.unreadable)
    beside = {} if kept.context is msgspec.UNSET else tracking_document.read(bytes(kept.context))
    if isinstance(message, str) or isinstance(beside, str):
        return Unread(message if isinstance(message, str) else str(beside))
    flags: list[str] = []
    if b"\\u0000" in body:
        before = [message, beside]
        message, beside = text.without_nul(before)
        if before != [message, beside]:
            flags.append("nul_replaced")
    try:
        return _message(source_id, message, beside, kept, received_at, flags)
    except _BadError as bad:
        return Unread(str(bad))


def _message(
    source_id: str,
    message: dict[str, Any],
    beside: dict[str, Any],
    kept: _Kept,
    received_at: datetime,
    flags: list[str],
) -> Message:
    kind = _type(kept.type or message.get("type"))
    context = {**beside, **_object(message.get("context"))}
    context_traits = _object(context.pop("traits", None))
    own_traits = _object(message.get("traits"))
    properties = dict(_object(message.get("properties")))

    # What a group has is not the user's; everywhere else both places say what the user is like.
    about_user = (context_traits,) if kind == "group" else (own_traits, context_traits)
    given = {**about_user[-1], **about_user[0]}
    traits = {name: value for name, value in given.items() if name not in ("email", "created_at", "createdAt")}
    external_id, email, anonymous_id = _identifiers(message, context, _email(about_user, flags))
    occurred_at, said_at = _times(message, kept, received_at)
    return Message(
        source_id=source_id,
        type=kind,
        external_id=external_id,
        email=email,
        anonymous_id=anonymous_id,
        previous_id=_identifier(message.get("previousId")) if kind == "alias" else None,
        traits=traits,
        account=_account(message, own_traits) if kind == "group" else None,
        created_at=_created_at(about_user, flags),
        name=_name(kind, message, properties),
        properties=_properties(kind, message, properties),
        context=_context(kind, message, context, flags),
        occurred_at=occurred_at,
        said_at=said_at,
        public=kept.public,
        imported=kept.imported,
    )


def _type(given: Any) -> MessageType:
    if given is None or given == "":
        raise _BadError("no_type")
    if not _is_type(given):
        raise _BadError("unknown_type")
    return given


def _is_type(given: Any) -> TypeGuard[MessageType]:
    return isinstance(given, str) and given in _TYPES


def _object(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise _BadError("wrong_shape")
    return given


def _identifiers(
    message: Mapping[str, Any], context: Mapping[str, Any], email: str | None
) -> tuple[str | None, str | None, str | None]:
    """external_id, email and anonymous_id; the message's own go before those that the context lists."""
    listed = _listed(context.get("externalId")) | _listed(context.get("externalIds"))
    external_id = _identifier(message.get("userId")) or listed.get("external_id")
    email = email or listed.get("email")
    anonymous_id = _identifier(message.get("anonymousId")) or listed.get("anonymous_id")
    if external_id is None and email is None and anonymous_id is None:
        raise _BadError("no_identifier")
    return external_id, email, anonymous_id


def _identifier(given: Any) -> str | None:
    """As text; None when there is none, or it is blank."""
    if isinstance(given, float):
        given = str(int(given)) if given.is_integer() and abs(given) < 2**53 else str(given)
    found = text.identifier(given)
    if found is None and given is not None and not isinstance(given, str):
        raise _BadError("bad_identifier")
    if found is not None and len(found.encode()) > _MAX_IDENTIFIER_BYTES:
        raise _BadError("bad_identifier")
    return found


def _listed(given: Any) -> dict[str, str]:
    """Identifiers by kind, of a list of {id, type}; text is an external_id. What has another type or shape says nothing
    about who it is."""
    found: dict[str, str] = {}
    entries = given if isinstance(given, list) else [{"id": given, "type": "external_id"}]
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        kind, value = entry.get("type"), text.identifier(entry.get("id"))
        if isinstance(kind, str) and kind in _EXTERNAL_ID_TYPES:
            kind = "external_id"
        elif kind == "email":
            value = text.address_as_given(value)
        elif kind != "anonymous_id":
            continue
        if value is not None and len(value.encode()) <= _MAX_IDENTIFIER_BYTES:
            found.setdefault(kind, value)
    return found


def _email(about_user: tuple[Mapping[str, Any], ...], flags: list[str]) -> str | None:
    for traits in about_user:
        given = traits.get("email")
        if given is None or given == "":
            continue
        address = text.address_as_given(given)
        if address is not None and len(address.encode()) <= _MAX_IDENTIFIER_BYTES:
            return address
        if "bad_email" not in flags:
            flags.append("bad_email")
    return None


def _created_at(about_user: tuple[Mapping[str, Any], ...], flags: list[str]) -> datetime | None:
    for traits in about_user:
        for name in ("created_at", "createdAt"):
            given = traits.get(name)
            if given is None or given == "":
                continue
            if (at := _time(given)) is not None:
                return at
            if "bad_created_at" not in flags:
                flags.append("bad_created_at")
    return None


def _account(message: Mapping[str, Any], traits: Mapping[str, Any]) -> dict[str, Any]:
    group_id = _identifier(message.get("groupId"))
    if group_id is None:
        raise _BadError("no_group_id")
    return {**traits, "id": group_id}


def _name(kind: MessageType, message: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    if kind == "track":
        name = _text(message.get("event"))
        if name is None:
            raise _BadError("no_event_name")
    elif kind in ("page", "screen"):
        name = _text(message.get("name")) or _text(properties.get("name")) or kind
    else:
        return ""
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise _BadError("long_name")
    return name


def _text(given: Any) -> str | None:
    return given if isinstance(given, str) and given.strip() else None


def _properties(kind: MessageType, message: Mapping[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    if kind not in ("track", "page", "screen"):
        return {}
    category = _text(message.get("category"))
    if kind != "track" and category is not None:
        properties.setdefault("category", category)
    return properties


def _context(
    kind: MessageType, message: Mapping[str, Any], context: dict[str, Any], flags: list[str]
) -> dict[str, Any]:
    """What the sender says of the circumstances. `flags` is ours; the sender's goes under `sent_flags`."""
    for name in ("integrations", "groupId"):
        # The SDKs send an empty `integrations` with every message.
        if message.get(name) and (name, kind) != ("groupId", "group"):
            context.setdefault(name, message[name])
    if "flags" in context:
        context["sent_flags"] = context.pop("flags")
    if flags:
        context["flags"] = flags
    return context


def _times(message: Mapping[str, Any], kept: _Kept, received_at: datetime) -> tuple[datetime, datetime | None]:
    """When it happened, and the time as the sender gave it.

    Who gives both times has corrected `timestamp` already, or chosen it: RudderStack takes it as it is, too.
    """
    given, original = _said(message.get("timestamp")), _said(message.get("originalTimestamp"))
    said_at = given or original
    if said_at is None:
        return received_at, None
    if (given is not None and original is not None) or kept.imported:
        return said_at, said_at
    own_sent_at = message.get("sentAt")
    sent_at = _time(kept.sentAt if own_sent_at is None else own_sent_at)
    if sent_at is None:
        return said_at, said_at
    try:
        return received_at - (sent_at - said_at), said_at
    except OverflowError:
        return said_at, said_at


def _said(given: Any) -> datetime | None:
    if given is None or given == "":
        return None
    at = _time(given)
    if at is None:
        raise _BadError("bad_timestamp")
    return at


def _time(given: Any) -> datetime | None:
    """ISO 8601, unix seconds or milliseconds, numbers also as text; without an offset it is UTC."""
    if isinstance(given, str):
        given = given.strip()
        return times.from_number(float(given)) if _NUMBER.fullmatch(given) else times.parse(given, UTC)
    return times.from_number(given) if isinstance(given, int | float) and not isinstance(given, bool) else None
