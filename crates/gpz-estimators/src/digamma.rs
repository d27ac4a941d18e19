//! The digamma function at whole numbers, from one table.

/// Euler's constant.
const GAMMA: f64 = 0.577_215_664_901_532_9;

/// `ψ(1), …, ψ(n)`.
pub(crate) struct Digamma {
    values: Vec<f64>,
}

impl Digamma {
    /// `ψ(m + 1) = ψ(m) + 1/m`, summed with the error of each addition carried along.
    pub(crate) fn up_to(n: usize) -> Self {
        let (mut sum, mut error) = (-GAMMA, 0.0);
        let values = (1..=n).map(|m| {
            let value = sum + error;
            let term = 1.0 / m as f64;
            let next = sum + term;
            let back = next - sum;
            error += (sum - (next - back)) + (term - back);
            sum = next;
            value
        });
        Self { values: values.collect() }
    }

    /// `ψ(m)` for `m` from 1 to the `n` of the table.
    pub(crate) fn of(&self, m: usize) -> f64 {
        self.values[m - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::function::gamma::digamma;

    #[test]
    fn the_table_is_the_function() {
        let table = Digamma::up_to(100_000);
        for m in [1, 2, 3, 10, 17, 1000, 99_999, 100_000] {
            let want = digamma(m as f64);
            assert!((table.of(m) - want).abs() <= 4e-15 * (1.0 + want.abs()), "{m}");
        }
    }
}
