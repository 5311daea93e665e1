"""How colours look to the colour-blind, and how far apart two of them are.

Simulation: Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency",
IEEE TVCG 15 (2009) 1291-1298, severity 1.0, on linear sRGB. Distance: CIE 1976 L*a*b*, white D65; 2.3 is about the
smallest that is seen side by side (Mahy et al. 1994).
"""

import numpy as np
from matplotlib.colors import to_rgb

VISION = {
    "common": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Linear sRGB to CIE XYZ (IEC 61966-2-1).
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def seen_as(colour, vision):
    """L*, a*, b* of a colour (any that matplotlib knows) under one of VISION."""
    srgb = np.array(to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return _lab(np.clip(VISION[vision] @ linear, 0, 1))


def _lab(linear):
    relative = TO_XYZ @ linear / (TO_XYZ @ np.ones(3))
    x, y, z = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one, other, vision):
    """CIELAB distance of two colours under one of VISION."""
    return float(np.linalg.norm(seen_as(one, vision) - seen_as(other, vision)))
