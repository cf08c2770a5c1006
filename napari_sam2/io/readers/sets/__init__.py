"""Sets of files that form one image: by their names, or by OME metadata."""
