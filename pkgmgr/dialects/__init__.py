"""Dialects: the shapes that tools put models into registries in. Pure: manifest ↔ ModelSpec."""
