"""Content-addressed artifacts on a local folder, S3 or GCS."""
