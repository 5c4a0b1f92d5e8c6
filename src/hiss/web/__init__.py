"""The page and the HTTP interface: one process, one port, and nothing leaves the machine."""
