"""Assets, one file a stage of the pipeline. Wiring only."""
