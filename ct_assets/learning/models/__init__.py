"""Models: bundle, registry, model card, prediction."""
