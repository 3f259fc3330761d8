"""Output for people and machines: tables, sentences, figures, pages and export formats."""
