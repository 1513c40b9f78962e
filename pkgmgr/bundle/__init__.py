"""Models across the air gap: bundles, block indexes, deltas."""
