//! Gaussian entropy with full covariances, by LAPACK (feature `lapack`). In nats.

mod full;

pub use full::*;
