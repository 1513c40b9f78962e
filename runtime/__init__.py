"""Runtime: loads model files into llama.cpp and answers requests. Knows no registry, no HTTP."""
