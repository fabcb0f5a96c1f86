"""Reading what was sent: paths, bodies and limits, into operations or refusals."""
