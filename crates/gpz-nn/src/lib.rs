//! Tape autograd, layers, losses, optimisers, schedules, initialisers and checkpoints
