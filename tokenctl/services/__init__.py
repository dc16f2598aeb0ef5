"""One use case per file: the rules and the order of steps; knows no terminal and no SQL."""
