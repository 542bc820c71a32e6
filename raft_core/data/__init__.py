"""Rows: records, the files that they come from, matching, neighbours."""
