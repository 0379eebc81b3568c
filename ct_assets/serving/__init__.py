"""The HTTP API over registered models and Dagster's runs: one concept a file, routers found by `app`."""
