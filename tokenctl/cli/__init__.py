"""One file per command: parse, one service call, one output call."""
