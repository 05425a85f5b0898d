"""The daemon: drains for months, rests when told, and answers whoever asks on its socket."""
