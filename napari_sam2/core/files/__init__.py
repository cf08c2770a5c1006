"""Files: atomic writing, pydantic models of their fields, optional packages of formats."""
