"""Commands that are more than a call. Results go to stdout, progress and remarks to stderr."""
