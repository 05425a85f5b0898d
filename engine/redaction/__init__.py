"""Redaction: secrets in what a child says are covered before anything of it is stored.

``stream`` is for bytes as they come, ``texts`` for words, ``kinds`` the table of what is known.
Nothing is imported here, because the guardian pays for every module it loads.
"""
