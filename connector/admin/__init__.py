"""What the connector says about itself: health for machines, status for people."""
