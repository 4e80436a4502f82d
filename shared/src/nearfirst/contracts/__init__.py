"""What services promise each other and their users: pydantic models, names and errors. No I/O."""
