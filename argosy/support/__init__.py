"""What every other package may lean on and what leans on none of them: errors, environment, files, text for people."""
