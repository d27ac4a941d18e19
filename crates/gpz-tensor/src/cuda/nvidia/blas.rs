//! Matrix products by cuBLAS.
//!
//! cuBLAS means matrices column by column. A row-major matrix read that way is its transpose, so that `c = a · b` of row-major matrices is
//! asked for as `cᵀ = bᵀ · aᵀ`: factors in the other order, `m` and `n` exchanged, nothing moved.

use std::ffi::{CStr, c_void};
use std::ptr;

use cudarc::cublas::sys::{
    self, cublasComputeType_t, cublasOperation_t, cublasStatus_t, cudaDataType_t,
};

use super::Precision;
use super::context::Context;
use super::libraries;
use crate::cuda::driver::{Failure, Matrix, Outcome, Product};

/// What is called: all of it must be there.
pub(super) const FUNCTIONS: &[&str] = &[
    "cublasCreate_v2",
    "cublasDestroy_v2",
    "cublasGemmEx",
    "cublasGemmStridedBatchedEx",
    "cublasGetProperty",
    "cublasGetStatusString",
    "cublasSetAtomicsMode",
    "cublasSetStream_v2",
    "cublasSetWorkspace_v2",
];

/// Products in one call: some of cuBLAS's kernels count them in a grid's third dimension.
const MOST_PRODUCTS: usize = 65535;

/// A factor as cuBLAS reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Factor {
    address: u64,
    /// Whether to transpose what is read column by column.
    transpose: bool,
    /// Elements from column to column.
    leading: i32,
    /// Elements from matrix to matrix.
    stride: i64,
}

/// The product that cuBLAS is asked for: `[rows, inner] · [inner, columns]`, column by column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gemm {
    rows: i32,
    columns: i32,
    inner: i32,
    first: Factor,
    second: Factor,
    c: u64,
    batch: usize,
}

/// The transpose of a row-major `[rows, columns]` matrix, or of one that lies by columns, as a factor.
fn factor(matrix: &Matrix, rows: usize, columns: usize) -> Option<Factor> {
    // The stride along an axis of one entry means nothing, but cuBLAS wants one that would do.
    let (transpose, leading, least) = if matrix.column == 1 || columns == 1 {
        (false, if rows == 1 { columns } else { matrix.row }, columns)
    } else if matrix.row == 1 || rows == 1 {
        (true, matrix.column, rows)
    } else {
        return None;
    };
    if leading < least {
        return None;
    }
    let (leading, stride) = (i32::try_from(leading).ok()?, i64::try_from(matrix.batch).ok()?);
    Some(Factor { address: matrix.address, transpose, leading, stride })
}

/// What to ask cuBLAS for; nothing if it cannot be asked.
fn plan(product: &Product) -> Option<Gemm> {
    let [mut m, k, n] = product.size;
    let mut batch = product.batch;
    let (a, b) = (&product.a, &product.b);
    // Matrices that follow each other and meet the same second factor are one matrix with more rows.
    if batch > 1 && b.batch == 0 && a.column == 1 && a.batch == m * a.row && m > 1 {
        (m, batch) = (m * batch, 1);
    }
    Some(Gemm {
        rows: i32::try_from(n).ok()?,
        columns: i32::try_from(m).ok()?,
        inner: i32::try_from(k).ok()?,
        first: factor(b, k, n)?,
        second: factor(a, m, k)?,
        c: product.c,
        batch,
    })
}

/// cuBLAS in a context.
#[derive(Debug)]
pub(super) struct Blas {
    handle: sys::cublasHandle_t,
    workspace: u64,
}

// SAFETY: the handle is a name within cuBLAS, which takes it from any thread, one at a time.
unsafe impl Send for Blas {}

impl Blas {
    /// Opens cuBLAS in the context that is entered.
    ///
    /// The workspace is one block from here on: with a fixed one on one stream, cuBLAS promises the same bits for the same product.
    pub(super) fn new(context: &Context, compute_capability: [u32; 2]) -> Outcome<Self> {
        libraries::blas().usable()?;
        let mut handle = ptr::null_mut();
        // SAFETY: cuBLAS is there with all its functions, and writes one handle.
        check("cublasCreate", unsafe { sys::cublasCreate_v2(&mut handle) })?;
        let mut this = Blas { handle, workspace: 0 };
        match this.set_up(context, compute_capability) {
            Ok(()) => Ok(this),
            Err(failure) => {
                // SAFETY: the caller has entered the context, and nothing was asked of cuBLAS yet.
                unsafe { this.close(context) };
                Err(failure)
            }
        }
    }

    fn set_up(&mut self, context: &Context, compute_capability: [u32; 2]) -> Outcome {
        // What NVIDIA recommends.
        let bytes = if compute_capability[0] >= 9 { 32 << 20 } else { 8 << 20 };
        self.workspace = context.allocate(bytes)?.ok_or_else(|| {
            let mebibytes = bytes >> 20;
            Failure::memory(format!(
                "the device has no {mebibytes} MiB left for cuBLAS; a smaller batch needs less"
            ))
        })?;
        let workspace = ptr::with_exposed_provenance_mut(self.workspace as usize);
        let forbidden = sys::cublasAtomicsMode_t::CUBLAS_ATOMICS_NOT_ALLOWED;
        // SAFETY: the handle is open, the stream is the context's, and the workspace as large as said. The stream comes first: setting it
        // forgets the workspace.
        unsafe {
            check(
                "cublasSetStream",
                sys::cublasSetStream_v2(self.handle, context.stream().cast()),
            )?;
            check("cublasSetWorkspace", sys::cublasSetWorkspace_v2(self.handle, workspace, bytes))?;
            check("cublasSetAtomicsMode", sys::cublasSetAtomicsMode(self.handle, forbidden))
        }
    }

    /// Multiplies, in the context that is entered.
    ///
    /// # Safety
    /// As [`crate::cuda::driver::Driver::multiply`].
    pub(super) unsafe fn multiply(&self, product: &Product, precision: Precision) -> Outcome {
        let refused = || {
            let rule =
                "an extent beyond 2^31, or a factor that lies neither by rows nor by columns";
            Failure::new(format!("cuBLAS cannot multiply {:?}: {rule}", product.size))
        };
        let gemm = plan(product).ok_or_else(refused)?;
        let mut done = 0;
        while done < gemm.batch {
            let count = (gemm.batch - done).min(MOST_PRODUCTS);
            // SAFETY: as the caller promises: the addresses are those of the product's matrices.
            unsafe { self.run(&gemm, done, count as i32, precision) }?;
            done += count;
        }
        Ok(())
    }

    /// So many products from one on.
    unsafe fn run(&self, gemm: &Gemm, from: usize, count: i32, precision: Precision) -> Outcome {
        let compute = match precision {
            Precision::F32 => cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Precision::Tf32 => cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            Precision::Bf16 => cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_16BF,
        };
        let float = cudaDataType_t::CUDA_R_32F;
        let algorithm = sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;
        let operation = |factor: &Factor| match factor.transpose {
            false => cublasOperation_t::CUBLAS_OP_N,
            true => cublasOperation_t::CUBLAS_OP_T,
        };
        let Gemm { rows, columns, inner, first, second, .. } = *gemm;
        let c_stride = i64::from(rows) * i64::from(columns);
        let at = |address: u64, stride: i64| {
            let address = address + 4 * from as u64 * stride as u64;
            ptr::with_exposed_provenance_mut::<c_void>(address as usize)
        };
        let (a, b) = (at(first.address, first.stride), at(second.address, second.stride));
        let c = at(gemm.c, c_stride);
        let (one, zero) = (1.0f32, 0.0f32);
        let (alpha, beta) = (ptr::from_ref(&one).cast(), ptr::from_ref(&zero).cast());
        // SAFETY: the handle is open; the addresses are the caller's, the strides as planned, and cuBLAS reads the two scalars at the call.
        let status = unsafe {
            if count == 1 {
                sys::cublasGemmEx(
                    self.handle,
                    operation(&first),
                    operation(&second),
                    rows,
                    columns,
                    inner,
                    alpha,
                    a,
                    float,
                    first.leading,
                    b,
                    float,
                    second.leading,
                    beta,
                    c,
                    float,
                    rows,
                    compute,
                    algorithm,
                )
            } else {
                sys::cublasGemmStridedBatchedEx(
                    self.handle,
                    operation(&first),
                    operation(&second),
                    rows,
                    columns,
                    inner,
                    alpha,
                    a,
                    float,
                    first.leading,
                    first.stride,
                    b,
                    float,
                    second.leading,
                    second.stride,
                    beta,
                    c,
                    float,
                    rows,
                    c_stride,
                    count,
                    compute,
                    algorithm,
                )
            }
        };
        check("cublasGemm", status)
    }

    /// Gives everything back.
    ///
    /// # Safety
    /// The context is entered, and the device does nothing any more.
    pub(super) unsafe fn close(self, context: &Context) {
        // SAFETY: nobody has the handle or the workspace any more.
        unsafe {
            sys::cublasDestroy_v2(self.handle);
            if self.workspace != 0 {
                context.free(self.workspace);
            }
        }
    }
}

/// Turns a status into an outcome that names the call.
fn check(call: &str, status: cublasStatus_t) -> Outcome {
    if status == cublasStatus_t::CUBLAS_STATUS_SUCCESS {
        return Ok(());
    }
    // SAFETY: cuBLAS knows its status, and the text lives as long as the library.
    let text = unsafe { CStr::from_ptr(sys::cublasGetStatusString(status)) };
    Err(Failure::new(format!("{call}: {} ({status:?})", text.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cuBLAS computes: all matrices column by column, those of `c` one after the other.
    fn gemm(g: &Gemm, memory: &[f32]) -> Vec<f32> {
        let [rows, columns, inner] = [g.rows, g.columns, g.inner].map(|n| n as usize);
        // cuBLAS refuses a leading dimension that is smaller than the columns of what it reads.
        assert!(g.first.leading as usize >= if g.first.transpose { inner } else { rows });
        assert!(g.second.leading as usize >= if g.second.transpose { columns } else { inner });
        let read = |f: &Factor, number: usize, row: usize, column: usize| {
            let (row, column) = if f.transpose { (column, row) } else { (row, column) };
            memory[f.address as usize
                + number * f.stride as usize
                + column * f.leading as usize
                + row]
        };
        let mut c = vec![0.0; g.batch * rows * columns];
        for number in 0..g.batch {
            for column in 0..columns {
                for row in 0..rows {
                    let terms = (0..inner).map(|i| {
                        read(&g.first, number, row, i) * read(&g.second, number, i, column)
                    });
                    c[(number * columns + column) * rows + row] = terms.sum();
                }
            }
        }
        c
    }

    fn naive(p: &Product, memory: &[f32]) -> Vec<f32> {
        let [m, k, n] = p.size;
        let read = |x: &Matrix, number: usize, row: usize, column: usize| {
            memory[x.address as usize + number * x.batch + row * x.row + column * x.column]
        };
        let mut c = Vec::new();
        for number in 0..p.batch {
            for row in 0..m {
                for column in 0..n {
                    let terms =
                        (0..k).map(|i| read(&p.a, number, row, i) * read(&p.b, number, i, column));
                    c.push(terms.sum());
                }
            }
        }
        c
    }

    /// Ways a `[rows, columns]` matrix may lie from an address on: by rows and by columns, dense and with gaps, repeated or not.
    fn layouts(address: u64, [rows, columns]: [usize; 2]) -> Vec<Matrix> {
        let mut layouts = Vec::new();
        for gap in [0, 3] {
            for batch in [0, (rows + 3) * (columns + 3)] {
                layouts.push(Matrix { address, row: columns + gap, column: 1, batch });
                layouts.push(Matrix { address, row: 1, column: rows + gap, batch });
            }
            let batch = rows * (columns + gap);
            layouts.push(Matrix { address, row: columns + gap, column: 1, batch });
        }
        layouts
    }

    #[test]
    fn all_layouts_give_the_row_major_product() {
        // Small whole numbers: sums are exact in whatever order.
        let memory: Vec<f32> = (0..4000u32).map(|i| ((i * 37 + i / 7) % 11) as f32 - 5.0).collect();
        let mut folded = 0;
        for size in
            [[2, 3, 4], [1, 5, 3], [4, 1, 2], [3, 4, 1], [1, 1, 1], [5, 2, 1], [1, 4, 1], [1, 1, 6]]
        {
            let [m, k, n] = size;
            for batch in [1, 3] {
                for a in layouts(5, [m, k]) {
                    for b in layouts(2000, [k, n]) {
                        let product = Product { batch, size, a, b, c: 0 };
                        let plan = plan(&product).unwrap();
                        folded += usize::from(plan.batch < batch);
                        assert_eq!(gemm(&plan, &memory), naive(&product, &memory), "{product:?}");
                    }
                }
            }
        }
        assert!(folded > 0);
    }

    #[test]
    fn what_cublas_cannot_read_is_refused() {
        let a = Matrix { address: 0, row: 4, column: 1, batch: 0 };
        let product = |a, size| Product { batch: 1, size, a, b: Matrix { row: 2, ..a }, c: 0 };
        assert!(plan(&product(a, [3, 4, 2])).is_some());
        assert_eq!(plan(&product(Matrix { row: 8, column: 2, ..a }, [3, 4, 2])), None);
        assert_eq!(plan(&product(Matrix { row: 3, ..a }, [3, 4, 2])), None, "rows that overlap");
        assert_eq!(plan(&product(a, [1 << 31, 4, 2])), None);
    }
}
