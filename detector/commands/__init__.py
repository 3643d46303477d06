"""Groups of commands of the command line; each parses, makes one API call and renders."""
