//! Inversion attacks: decoders, the trainer for all splits at once, image metrics
