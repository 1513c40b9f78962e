"""Package manager: names, manifests, the store, transfer. Knows no llama.cpp and no HTTP server."""
