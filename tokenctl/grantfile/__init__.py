"""Reading and judging grant files: bytes in, checked rows ready for COPY out."""
