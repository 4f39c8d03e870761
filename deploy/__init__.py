"""How Starling is run: the demo, and what other machines need."""
