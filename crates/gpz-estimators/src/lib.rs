//! Statistics of features: class geometry, entropy bounds, intervals
