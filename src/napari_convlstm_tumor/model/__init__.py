"""The recurrent network: cells, network, prompts as channels, weights and their card, prediction."""
