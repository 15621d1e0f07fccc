"""Tasks in English for small real models: reviews, words."""
