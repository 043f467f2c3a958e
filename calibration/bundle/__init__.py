"""Pack what a GPU host without network needs for a capture into one archive.

``python -m calibration.bundle --out ARCHIVE …`` builds it (``build``); the files of ``on_host`` go into it and run on
that host with the standard library alone.
"""
