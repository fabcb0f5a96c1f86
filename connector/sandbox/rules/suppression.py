"""The identifiers that nobody may use: those of suppressed people, until they are unsuppressed.

Follows docs.customer.io/journeys/deleting-users: suppressing blocks all identifiers that the person had,
unsuppressing frees them and restores nothing. A delete doesn't free them.

Readings of what is unverified:
- Unsuppressing one identifier frees those that were blocked along with it.
- An identifier of nobody can be suppressed too; it is blocked alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from connector.sandbox.operations import Identifier

_Key = tuple[str, str]


class Suppressed:
    """Blocked identifiers, each with the keys of those that were blocked along with it."""

    def __init__(self) -> None:
        self._together: dict[_Key, tuple[_Key, ...]] = {}

    def __contains__(self, who: Identifier) -> bool:
        return bool(self._together) and who.key in self._together

    def block(self, names: Iterable[Identifier]) -> None:
        together = tuple(name.key for name in names)
        self._together.update(dict.fromkeys(together, together))

    def free(self, who: Identifier) -> bool:
        """Whether it was blocked."""
        together = self._together.get(who.key, ())
        for key in together:
            self._together.pop(key, None)
        return bool(together)
