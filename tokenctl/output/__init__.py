"""The one way to print: data to stdout, talk to stderr, as a table, TSV or JSON."""

from tokenctl.output.printer import Output
from tokenctl.output.schemas import Count, EntryName, Meta, Schema, Tokens, TypedDict
from tokenctl.output.views import Ago, Bars, Cell, Column, Listing, Named, Table, View

__all__ = [
    "Ago",
    "Bars",
    "Cell",
    "Column",
    "Count",
    "EntryName",
    "Listing",
    "Meta",
    "Named",
    "Output",
    "Schema",
    "Table",
    "Tokens",
    "TypedDict",
    "View",
]
