"""Building an ensemble: the document, its TOML, what it costs, and where drafts lie."""
