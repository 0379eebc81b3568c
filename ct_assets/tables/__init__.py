"""Every table's schema, declared once (dataframely over polars), one file a stage; `io` writes and reads."""

from ct_assets.tables.io import TableError, dtypes, frame, read_table, validate, write_table

__all__ = ["TableError", "dtypes", "frame", "read_table", "validate", "write_table"]
