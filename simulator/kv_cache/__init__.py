"""Paged KV block pool and prefix cache, as vLLM's V1 engine keeps them."""
