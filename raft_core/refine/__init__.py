"""Refinement: prepare, rewrite, embed, filter, fuse."""
