"""Tasks that organisms are pre-trained on: string rules, codebooks."""
