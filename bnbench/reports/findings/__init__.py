"""Published findings beside our own runs: tables, a terminal, documents and a page."""
