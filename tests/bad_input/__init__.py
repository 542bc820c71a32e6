"""What users give that cannot be used: every case with the outcome that it must have."""
