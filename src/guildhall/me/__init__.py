"""What `/v1` knows of whoever asks: their account, settings, usage and first steps."""
