"""Signatures, trust policy and bills of material."""
