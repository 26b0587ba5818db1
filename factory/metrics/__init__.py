"""Mathematics of fidelity: how far two sets of images lie apart."""
