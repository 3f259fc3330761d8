"""What people and machines read: tables, sentences, the live progress, and the export formats."""
