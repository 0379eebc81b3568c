"""The phantom cohort behind the demo and the tests."""
