"""The log in a file, on a server or in memory, and the recorder that writes it."""
