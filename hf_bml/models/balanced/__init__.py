"""Any model that classifies, made ready for balanced training: `balance()`."""
