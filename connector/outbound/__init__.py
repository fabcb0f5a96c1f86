"""People out: a pass finds who differs, the worker claims, decides, sends and records."""
