"""What a person has beside attributes: devices, and memberships of manual segments.

Follows the Track API reference, tags "Track Customers" (devices) and "Track Segments". None of it is a
change of the person that orders identifies.

Readings of what is unverified:
- Every segment id names a manual segment that exists; data-driven ones, which can't be written, are not known.
- A device token stays with each person who was given it.
- A device that is added again keeps the attributes that aren't sent.
"""

from __future__ import annotations

from connector.sandbox.operations import AddDevice, DeleteDevice, Membership
from connector.sandbox.rules import attributes
from connector.sandbox.rules.people import Device
from connector.sandbox.rules.workspace import Workspace


def add_device(workspace: Workspace, operation: AddDevice) -> None:
    person = workspace.reach(operation.who, "add_device", create=True)
    if person is None:
        return
    had = person.devices.get(operation.token)
    person.devices[operation.token] = Device(
        token=operation.token,
        platform=operation.platform,
        last_used=workspace.seconds() if operation.last_used is None else operation.last_used,
        attributes=attributes.merged(had.attributes if had else {}, operation.attributes),
    )
    workspace.applied["device"] += 1


def delete_device(workspace: Workspace, operation: DeleteDevice) -> None:
    person = workspace.reach(operation.who, "delete_device")
    if person is None:
        return
    if person.devices.pop(operation.token, None) is None:
        workspace.refuse("unknown_device", "delete_device", operation.who, operation.token)
    else:
        workspace.applied["device_deleted"] += 1


def membership(workspace: Workspace, operation: Membership) -> None:
    """Those whom nobody knows are skipped, also in the activity log."""
    for who in operation.people:
        person = None if workspace.unusable(who) else workspace.people.find(who)
        if person is None:
            continue
        if operation.adds:
            person.segments.add(operation.segment_id)
        else:
            person.segments.discard(operation.segment_id)
        workspace.applied["segment"] += 1
