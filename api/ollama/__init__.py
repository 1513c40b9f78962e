"""The ollama surface: routes, schemas, conversion."""
