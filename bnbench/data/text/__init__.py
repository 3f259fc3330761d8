"""From text to tokens: units and vocabularies, windows, padded texts, the files of a user."""
