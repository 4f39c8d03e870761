"""The rules of Starling: pure decisions, no I/O, no clock, no global randomness."""
