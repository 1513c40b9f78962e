"""Modelfiles: text ↔ commands ↔ parts."""
