//! Tensors on the CPU: shapes, dtypes, and each operation once
