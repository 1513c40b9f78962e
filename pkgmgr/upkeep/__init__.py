"""Keeping a store healthy: verify, repair, prune, disk use."""
