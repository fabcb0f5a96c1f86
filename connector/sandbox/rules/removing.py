"""Delete, suppress, unsuppress and merge: what makes people go.

Follows the Track API reference and docs.customer.io/journeys/deleting-users and merge-people. A delete
forgets everything, also the opt-out, and lifts no suppression. A merge needs both people, fills only what
the primary hasn't set, and moves the activities of the last 30 days, manual segments and anonymous ids.

Stricter readings of what is unverified:
- A merge that lacks the primary or the secondary does nothing.
- What isn't listed isn't moved: devices, relationships and older activities are gone with the secondary.
- A merge is a change of the primary, now; and it moves all at once, not some within the hour.
- Attributes of the secondary that would be the primary's 301st are not taken over.
"""

from __future__ import annotations

from connector.sandbox.operations import Delete, Merge, Suppress, Unsuppress
from connector.sandbox.rules import anonymous, capacity
from connector.sandbox.rules.people import Person
from connector.sandbox.rules.workspace import Workspace


def delete(workspace: Workspace, operation: Delete) -> None:
    person = workspace.reach(operation.who, "delete")
    if person is not None:
        _forget(workspace, person)
        workspace.applied["deleted"] += 1


def suppress(workspace: Workspace, operation: Suppress) -> None:
    who = operation.who
    if refusal := workspace.unusable(who):
        workspace.refuse(refusal, "suppress", who)
        return
    person = workspace.people.find(who)
    if person is not None:
        workspace.suppressed.block(person.names)
        _forget(workspace, person)
    elif who.kind == "cio_id":
        workspace.refuse("unknown_cio_id", "suppress", who)
        return
    else:
        workspace.suppressed.block([who])
    workspace.applied["suppressed"] += 1


def unsuppress(workspace: Workspace, operation: Unsuppress) -> None:
    if workspace.suppressed.free(operation.who):
        workspace.applied["unsuppressed"] += 1
    else:
        workspace.refuse("not_suppressed", "unsuppress", operation.who)


def merge(workspace: Workspace, operation: Merge) -> None:
    primary = workspace.reach(operation.primary, "merge")
    secondary = primary and workspace.reach(operation.secondary, "merge")
    if primary is None or secondary is None:
        return
    if primary is secondary:
        workspace.refuse("same_person", "merge", operation.secondary)
        return
    identifiers, anonymous_ids = dict(secondary.identifiers), dict(secondary.anonymous_ids)
    _forget(workspace, secondary)
    for kind, value in identifiers.items():
        if kind not in primary.identifiers:
            workspace.people.name(primary, kind, value)
    for anonymous_id, at in anonymous_ids.items():
        workspace.people.bind(primary, anonymous_id, at)
    primary.attributes = _filled(primary.attributes, secondary.attributes)
    oldest = workspace.seconds() - anonymous.KEPT_SECONDS
    moved = [each for each in secondary.activities if each.timestamp >= oldest]
    if moved:
        primary.activities = sorted(primary.activities + moved, key=lambda each: each.number)
    primary.segments |= secondary.segments
    primary.changed_at = max(workspace.seconds(), primary.changed_at or 0)
    workspace.applied["merged"] += 1


def _filled(primary: dict[str, object], secondary: dict[str, object]) -> dict[str, object]:
    unset = [name for name in secondary if name not in primary][: capacity.ATTRIBUTES - len(primary)]
    return {**primary, **{name: secondary[name] for name in unset}}


def _forget(workspace: Workspace, person: Person) -> None:
    workspace.objects.leave(person)
    workspace.people.remove(person)
