"""Receive, then read: a request is appended and answered; the reader makes users and events of it afterwards."""
