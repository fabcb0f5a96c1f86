"""Promises shown at full size, with real processes; the test suite runs the same at a small one."""
