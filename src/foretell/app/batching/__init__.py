"""The batch command: its settings, the job it starts, and what it shows meanwhile."""
