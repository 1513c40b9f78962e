"""The REST server and the console script. Knows HTTP and no media type of a model layer."""
