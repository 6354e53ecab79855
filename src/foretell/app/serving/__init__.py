"""Serving is what happens between the command line and the application: start, servers, threads."""
