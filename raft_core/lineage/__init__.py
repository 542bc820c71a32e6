"""What became of every row that entered the pipeline: a Parquet table, and a page to browse it."""
