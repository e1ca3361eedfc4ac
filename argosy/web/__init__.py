"""`argosy web`: a loopback HTTP server hands the chat page and one artefact to a browser."""
