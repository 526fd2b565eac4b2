"""Motor queries; documents to domain and back. Nothing outside this package (and main) knows
MongoDB.
"""
