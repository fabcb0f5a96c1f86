"""A self-hosted, bidirectional connector between a user-event store and Customer.io."""

from importlib.metadata import version

__version__ = version("customerio-connector")
