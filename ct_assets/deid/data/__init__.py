"""Bundled data of de-identification: the Standard's tables (made by script), word list, page template."""
