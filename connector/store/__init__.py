"""The SQL. Plain functions, connection first; they return records and never commit."""
