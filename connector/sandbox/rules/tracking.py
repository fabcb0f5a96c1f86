"""Events, page and screen views: of people, of anonymous visitors, and invites.

Follows the Track API reference (events; anonymous events) and docs.customer.io/journeys/events: a repeated
event ULID is neither stored nor processed.

Stricter readings of what is unverified:
- Repeated ULIDs are ignored for good, also another person's and a deleted person's, in any letter case. An
  id that isn't a ULID is kept and not compared.
- A ULID counts as seen once its activity is kept: one that was ignored (a suppressed person's) may come again.
- An anonymous_id beside a person's identifier is kept with the activity and binds nothing.
"""

from __future__ import annotations

import re

from connector.sandbox.operations import Identifier, Track
from connector.sandbox.rules import anonymous
from connector.sandbox.rules.people import Activity, Person
from connector.sandbox.rules.workspace import Workspace

_ULID = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}", re.IGNORECASE)


def track(workspace: Workspace, operation: Track) -> None:
    ulid = operation.id.upper() if operation.id and _ULID.fullmatch(operation.id) else None
    if ulid in workspace.seen_ulids:
        workspace.refuse("repeated_event", operation.type, operation.who, operation.id or "")
        return
    who, person = operation.who, None
    if who is not None and who.kind == "anonymous_id":
        if refusal := workspace.unusable(who):
            workspace.refuse(refusal, operation.type, who)
            return
        person = _lately_identified(workspace, who)
    elif who is not None:
        person = workspace.reach(who, operation.type, create=True)
        if person is None:
            return
    if ulid is not None:
        workspace.seen_ulids.add(ulid)
    activity = _activity(workspace, operation)
    if person is None:
        workspace.anonymous.add(activity, workspace.seconds())
    else:
        person.activities.append(activity)
    workspace.applied[activity.type] += 1


def _lately_identified(workspace: Workspace, who: Identifier) -> Person | None:
    """Whose activity an anonymous one is, when it comes shortly after the identify."""
    owner = workspace.people.find(who)
    if owner is None or not anonymous.still_attaches(owner, who.value, workspace.seconds()):
        return None
    return owner


def _activity(workspace: Workspace, operation: Track) -> Activity:
    now = workspace.seconds()
    workspace.activity_number += 1
    return Activity(
        number=workspace.activity_number,
        type=operation.type,
        name=operation.name,
        id=operation.id,
        timestamp=now if operation.timestamp is None else operation.timestamp,
        received=now,
        data=operation.data,
        anonymous_id=operation.anonymous_id,
    )
