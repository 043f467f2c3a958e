"""What runs on the GPU host: standard library alone, and what the bundle unpacks."""
