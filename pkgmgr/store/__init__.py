"""The local store: a valid OCI image layout on disk."""
