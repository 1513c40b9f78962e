"""Prompt templates: Jinja and Go text/template. Pure; rendering is bounded in time and space."""
