"""Serve the chat page and one artefact to a browser, from a loopback HTTP server."""
