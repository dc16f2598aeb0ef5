"""The one way to print: data to stdout, talk to stderr, as a table, TSV or JSON."""

from tokenctl.output.printer import Output
from tokenctl.output.views import Bars, Cell, Column, Table, View

__all__ = ["Bars", "Cell", "Column", "Output", "Table", "View"]
