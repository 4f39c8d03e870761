"""Viewers that measure what they see: a headless player, and the page the edge serves."""
