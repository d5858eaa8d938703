"""Text to documents, documents to windows."""
