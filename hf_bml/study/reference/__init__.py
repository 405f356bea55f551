"""What a recipe can name, with all options: read from what is declared, shown by `hf-bml options`."""
