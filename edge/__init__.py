"""The edge daemon: thin shells around the rules."""
