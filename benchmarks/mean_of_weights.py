"""The mean of several trained weights: python benchmarks/mean_of_weights.py A.safetensors=0.4 B.safetensors=0.6 -o MEAN

Weights of runs that began with one another lie in one valley, and their mean is often better than each (Wortsman et
al. 2022, "Model soups", arXiv 2203.05482). What any of them was trained on counts as known to the mean. The forecast
head works on the features of its own network: train it again on the mean (`train --forecast-only --start MEAN`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_convlstm_tumor.model.card import Model, load_model, save_model
from napari_convlstm_tumor.training.leakage import CARD_KEY

# What save_model writes anew, and what was measured of one of them alone.
OF_ONE_ALONE = ("name", "network", "parameters", "sha256", "accuracy")


def mean_of(models: list[Model], shares: list[float], target: Path) -> None:
    """Write the mean of networks of one architecture; its card is the last one's, with what all were trained on."""
    if any(m.card["network"] != models[0].card["network"] for m in models):
        raise SystemExit("These weights are of unlike networks: they have no mean.")
    states, last = [m.network.state_dict() for m in models], models[-1]
    last.network.load_state_dict(
        {name: sum(share * state[name] for share, state in zip(shares, states, strict=True)) for name in states[0]}
    )
    told = {key: value for key, value in last.card.items() if key not in OF_ONE_ALONE}
    trained = [line for m in models for line in m.card.get("trained_on", ())]
    images = {image for m in models for image in m.card.get(CARD_KEY, ())}
    save_model(last.network, target, {**told, "trained_on": list(dict.fromkeys(trained)), CARD_KEY: sorted(images)})


def main() -> None:
    """Read the models and their shares from the command line."""
    parser = argparse.ArgumentParser(description="The mean of several trained weights.")
    parser.add_argument("models", nargs="+", metavar="MODEL=SHARE", help="a shipped name or a .safetensors file")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    pairs = [text.rpartition("=")[::2] for text in options.models]
    shares = [float(share) for _, share in pairs]
    if abs(sum(shares) - 1) > 1e-6:
        raise SystemExit(f"The shares sum to {sum(shares):g}, not to 1.")
    mean_of([load_model(name) for name, _ in pairs], shares, options.output)


if __name__ == "__main__":
    main()
