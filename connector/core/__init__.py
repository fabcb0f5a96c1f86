"""Pure functions: bytes, records and the time in, records out. No I/O, no clock, no randomness, no logging."""
