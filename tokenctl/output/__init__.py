"""The one way to print: data to stdout, talk to stderr, as a table, TSV or JSON."""

from tokenctl.output.printer import Output
from tokenctl.output.views import Ago, Bars, Cell, Column, Listing, Table, View

__all__ = ["Ago", "Bars", "Cell", "Column", "Listing", "Output", "Table", "View"]
