"""Depth for trained generators: the mechanism, and one file a family."""
