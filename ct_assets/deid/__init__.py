"""De-identification: profile, engine, pseudonyms, UID graph, burned-in text, leak scan, audit."""
