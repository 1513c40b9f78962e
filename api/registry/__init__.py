"""The registry surface: routes, schemas, conversion."""
