"""Secret key, pseudonyms, UID mapping, withdrawn persons."""
