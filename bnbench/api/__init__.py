"""The pieces joined: what a command or a notebook asks for, returned as objects; nothing here prints."""
