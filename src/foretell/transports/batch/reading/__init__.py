"""Reading makes pieces of files: one reader a form, each in bounded memory, whatever a file has."""
