"""Everything that speaks PostgreSQL, the embedded server included."""
