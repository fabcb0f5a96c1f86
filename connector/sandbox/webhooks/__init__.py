"""Reporting webhooks: their bodies, what makes them, and their delivery with the vendor's hold-back."""
