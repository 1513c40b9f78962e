"""The openai surface: routes, schemas, conversion."""
