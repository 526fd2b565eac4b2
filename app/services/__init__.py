"""One file per family of use cases. Services know nothing of HTTP and get their collaborators
passed in.
"""
