"""Hosts in network namespaces on shaped links, real programs in them, and how near to the fluid limit they come."""
