"""Worker processes: the interpreter of a backend, the process, the protocol, models inside it."""
