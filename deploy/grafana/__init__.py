"""The dashboard: what it draws, and how its file is made."""
