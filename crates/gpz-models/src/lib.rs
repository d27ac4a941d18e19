//! Target networks with named taps and splits, and what each split costs
