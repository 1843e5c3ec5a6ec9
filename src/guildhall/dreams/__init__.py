"""Dreams: a hub tidied up by rules, in small steps that people can look at, refuse and take back."""
