"""The one way to print: data to stdout, talk to stderr, as a table, TSV or JSON."""

from tokenctl.output.printer import Output
from tokenctl.output.views import Cell, Column, Table, View

__all__ = ["Cell", "Column", "Output", "Table", "View"]
