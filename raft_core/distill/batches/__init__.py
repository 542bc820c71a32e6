"""What a training step reads: targets, views, packed batches."""
