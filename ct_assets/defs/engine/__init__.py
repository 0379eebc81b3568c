"""The engine of the graph: graph table, provenance, partitions, run control."""
