"""The services we rely on, one Protocol each, with the embedded implementation beside the hosted ones."""
