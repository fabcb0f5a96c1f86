"""Objects, and the relationships of people to them.

Follows the Track API reference, tag "track_v2" (objects, relationships) and the key `cio_relationships` of
an identify. Null and "" clear an attribute of either. Limits: 300 attributes and 100 KB in all for an
object or a relationship.

Stricter readings of what is unverified:
- A relationship to an unknown object creates a bare one when it is named by type and id; an unknown
  cio_object_id is dropped. The same holds for people, by their identifiers.
- A relationship is no change of the person, so an older identify isn't held off by it.
- An object has no order: `timestamp` means nothing for it.
- What an anonymous id was related to becomes the relationship of the person who is identified with it.
"""

from __future__ import annotations

from typing import Any

from connector.sandbox.operations import (
    DeleteObject,
    Identifier,
    IdentifyObject,
    ObjectName,
    Relate,
    Relationship,
)
from connector.sandbox.rules import attributes, capacity
from connector.sandbox.rules.objects import CustomObject
from connector.sandbox.rules.people import Person
from connector.sandbox.rules.workspace import Workspace


def identify_object(workspace: Workspace, operation: IdentifyObject) -> None:
    it = _reach(workspace, operation.object, "identify", create=True)
    if it is None:
        return
    after = attributes.merged(it.attributes, operation.attributes)
    if not _fits(workspace, after, "identify"):
        return
    it.attributes = after
    workspace.applied["object"] += 1
    if operation.relate is not None:
        relate(workspace, operation.relate)


def delete_object(workspace: Workspace, operation: DeleteObject) -> None:
    it = _reach(workspace, operation.object, "delete")
    if it is not None:
        found = (workspace.people.find(Identifier("cio_id", cio_id)) for cio_id in it.people)
        workspace.objects.remove(it, [person for person in found if person is not None])
        workspace.applied["object_deleted"] += 1


def relate(workspace: Workspace, operation: Relate) -> None:
    for relationship in operation.relationships:
        if operation.adds:
            _add(workspace, relationship)
        else:
            _delete(workspace, relationship)


def _add(workspace: Workspace, relationship: Relationship) -> None:
    what, who = "add_relationships", relationship.who
    owner = _owner(workspace, who, what)
    it = None if owner is None else _reach(workspace, relationship.object, what, create=True)
    if owner is None or it is None:
        return
    related = it.anonymous if isinstance(owner, str) else it.people
    key = owner if isinstance(owner, str) else owner.cio_id
    after = attributes.merged(related.get(key, {}), relationship.attributes)
    if not _fits(workspace, after, what):
        return
    if isinstance(owner, str):
        workspace.objects.relate_anonymous(it, owner, after)
    else:
        workspace.objects.relate(it, owner, after)
    workspace.applied["relationship"] += 1


def _delete(workspace: Workspace, relationship: Relationship) -> None:
    what, who = "delete_relationships", relationship.who
    person = workspace.reach(who, what)
    it = None if person is None else _reach(workspace, relationship.object, what)
    if person is None or it is None:
        return
    if workspace.objects.unrelate(it, person):
        workspace.applied["relationship_deleted"] += 1
    else:
        workspace.refuse("unknown_relationship", what, who, it.cio_object_id)


def _owner(workspace: Workspace, who: Identifier, what: str) -> Person | str | None:
    """The person of a new relationship, or the anonymous id when nobody has been identified with it."""
    if who.kind != "anonymous_id":
        return workspace.reach(who, what, create=True)
    if refusal := workspace.unusable(who):
        workspace.refuse(refusal, what, who)
        return None
    return workspace.people.find(who) or who.value


def _reach(workspace: Workspace, name: ObjectName, what: str, *, create: bool = False) -> CustomObject | None:
    it = workspace.objects.find(name)
    if it is None and create and name.object_type_id:
        return workspace.objects.create(name, workspace.seconds())
    if it is None:
        workspace.refuse("unknown_object", what, None, f"{name.object_type_id} {name.object_id}".strip())
    return it


def _fits(workspace: Workspace, after: dict[str, Any], what: str) -> bool:
    if len(after) > capacity.ATTRIBUTES:
        workspace.refuse("too_many_attributes", what, None)
    elif capacity.size(after) > capacity.OBJECT_BYTES:
        workspace.refuse("too_large", what, None)
    else:
        return True
    return False
