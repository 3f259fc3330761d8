"""Functions behind the commands and for notebooks: they return objects; nothing here prints."""
